//! The plan: what the operator wants, as TOML.
