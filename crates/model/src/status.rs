//! What is: the state of sets and connections as `stead status` shows it.
