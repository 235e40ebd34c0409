//! Any bytes to extras; what parses is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stead_model::record::Extras;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(extras) = Extras::parse(bytes) {
        let mut written = Vec::new();
        extras.append_to(&mut written);
        assert_eq!(Extras::parse(&written), Ok(extras));
    }
});
