//! `cutdisk DIR MOUNT [--mib N] [--fs KIND] [--seed N]`: a disk to try things on by hand. Each line of standard input is
//! a power cut; its end unmounts everything.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use cutdisk::CutDisk;

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut disk = CutDisk::create(&options.dir, options.mib << 20)?;
    disk.format(&options.kind, &[])?;
    disk.mount(&options.mount, "noatime")?;
    let device = disk.device().unwrap_or(Path::new("nowhere")).display().to_string();
    println!("{device} is mounted on {}; seed {}; return cuts the power", options.mount.display(), options.seed);
    for (seed, line) in (options.seed..).zip(std::io::stdin().lines()) {
        line?;
        println!("{:?}", disk.cut(seed)?);
        disk.power_on().context("end what uses the file system first")?;
        disk.mount(&options.mount, "noatime")?;
        println!("it is mounted again; {:?}", disk.counts());
    }
    Ok(())
}

struct Options {
    dir: PathBuf,
    mount: PathBuf,
    mib: u64,
    kind: String,
    seed: u64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options> {
        let (mut paths, mut mib, mut kind) = (Vec::new(), 512, "ext4".to_string());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let mut seed = now % 1_000_000_007;
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--mib" => mib = value()?.parse()?,
                "--fs" => kind = value()?,
                "--seed" => seed = value()?.parse()?,
                _ => paths.push(PathBuf::from(arg)),
            }
        }
        let [dir, mount] = <[PathBuf; 2]>::try_from(paths).unwrap_or_default();
        if dir.as_os_str().is_empty() {
            bail!("usage: cutdisk DIR MOUNT [--mib N] [--fs ext4|xfs] [--seed N]");
        }
        Ok(Options { dir, mount, mib, kind, seed })
    }
}
