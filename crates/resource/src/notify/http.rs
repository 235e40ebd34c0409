//! One message to a web hook.

use std::time::Instant;

use stead_model::plan::WebhookPlan;

use super::line::left;
use crate::files::secret;
use crate::hook::Hook;
use crate::{Failure, Stop};

/// Posts it; only an answer from 200 to 299 counts as received.
pub(super) fn post(plan: &WebhookPlan, body: String, moment: Instant) -> Result<(), Failure> {
    let token = plan.token_file.as_deref().map(secret).transpose()?;
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    headers.extend(token.map(|token| ("Authorization".to_owned(), format!("Bearer {token}"))));
    let hook = Hook {
        url: plan.url.parse().map_err(Failure::Unusable)?,
        method: "POST".into(),
        headers,
        body,
        secret: None,
        ca_file: plan.ca_file.clone(),
        expect: vec![200..=299],
    };
    hook.call_until(left(moment), &Stop::never()).value.map(drop)
}
