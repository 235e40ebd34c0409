use std::io;

/// A file operation that failed: which, on what, why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {subject}: {cause}")]
pub struct DiskError {
    /// What was tried, as "open" or "list".
    pub operation: &'static str,
    /// Path or file id.
    pub subject: String,
    /// What the kernel said.
    #[source]
    pub cause: io::Error,
}

impl DiskError {
    pub(crate) fn new(operation: &'static str, subject: impl ToString, cause: impl Into<io::Error>) -> Self {
        DiskError { operation, subject: subject.to_string(), cause: cause.into() }
    }

    /// Returns a closure for `map_err`.
    pub(crate) fn at<E: Into<io::Error>>(operation: &'static str, subject: impl ToString) -> impl FnOnce(E) -> Self {
        move |cause| DiskError::new(operation, subject, cause)
    }
}
