//! Any bytes to records; what parses is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stead_model::Record;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok((record, after)) = Record::parse(rest) {
        let fits = record.names == Default::default() && record.name2.is_empty() || record.kind.has_names();
        if fits {
            let mut written = Vec::new();
            record.append_to(&mut written);
            let (again, _) = Record::parse(&written).expect("what was written can be read");
            assert_eq!(again.data, record.data);
            assert_eq!(again.name, record.name);
        }
        rest = after;
    }
});
