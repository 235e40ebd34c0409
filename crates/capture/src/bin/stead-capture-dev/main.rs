//! A capture process and a reader of its stream, for trying a driver out by hand.
//!
//! ```text
//!   stead-capture-dev capture --socket S DIR…    serve (what `stead capture` does)
//!   stead-capture-dev drain S                    print the records until the process ends; `--quiet` only counts
//!   stead-capture-dev stop S [--lazy]
//!   stead-capture-dev stall S DIR N              kill the server N times under load in DIR, print the stalls
//! ```

mod stall;

use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use stead_capture::{Capture, MountCapture, MountSpec};
use stead_model::record::records;

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let is = |at: usize, word: &str| args.get(at).is_some_and(|arg| arg == word);
    if is(0, "capture") {
        return Ok(stead_capture::serve(MountSpec::from_args(args[1..].to_vec())?)?);
    }
    if is(0, "stall") {
        let [_, socket, dir, kills] = &args[..] else {
            return Err("a socket, a directory and a number are needed".into());
        };
        return stall::run(Path::new(socket), Path::new(dir), kills.to_str().unwrap_or_default().parse()?);
    }
    let mut capture = MountCapture::connect(Path::new(args.get(1).ok_or("a socket is needed")?))?;
    if is(0, "stop") {
        return Ok(capture.stop(is(2, "--lazy"))?);
    }
    let mut out = Vec::new();
    loop {
        if !capture.wait(Duration::from_secs(1)) {
            let status = capture.status();
            if !status.alive {
                println!("{status:?}");
                return Ok(());
            }
            continue;
        }
        out.clear();
        let number = capture.drain(&mut out, 4 << 20)?;
        capture.release(number, 0);
        for record in records(&out).filter(|_| !is(2, "--quiet")) {
            let r = record?;
            let name = String::from_utf8_lossy(r.name);
            let name2 = String::from_utf8_lossy(r.name2);
            let (len, kind) = (r.data.len(), r.kind);
            println!(
                "{number} {kind:?} {} in {} {name:?} {name2:?} a={} b={} c={:#x} data={len}",
                r.file, r.parent, r.a, r.b, r.c
            );
        }
    }
}
