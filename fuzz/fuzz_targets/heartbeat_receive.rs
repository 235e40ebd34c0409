//! Any bytes to a receiver of heartbeats.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stead_failover::heartbeat::Key;
use stead_failover::{ClusterId, NodeId, Receiver};

fuzz_target!(|bytes: &[u8]| {
    let (cluster, paris, lyon) = (ClusterId([1; 16]), NodeId([2; 16]), NodeId([3; 16]));
    let mut receiver = Receiver::new(cluster, lyon);
    receiver.add(paris, Key::derive(b"fuzzed", cluster, paris, lyon), 0);
    let _ = receiver.receive(bytes);
});
