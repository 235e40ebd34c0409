use std::cell::Cell;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use tempfile::TempDir;

use super::*;

thread_local! {
    /// So many changes are still done; none: all.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The power goes before this change, where it is to.
pub(super) fn point() -> io::Result<()> {
    match LEFT.get() {
        Some(0) => Err(io::Error::other("the power is off")),
        left => {
            LEFT.set(left.map(|left| left - 1));
            Ok(())
        }
    }
}

struct Bench {
    dir: TempDir,
    file: RoleFile,
}

impl Bench {
    /// Both copies are there, and a file that is the one of who stands by.
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("active"), "serve").unwrap();
        fs::write(at("standby"), "wait").unwrap();
        fs::write(at("notes.ini"), "wait").unwrap();
        let (active, standby) = (Active::Copy(at("active")), Some(at("standby")));
        let file = RoleFile { path: at("notes.ini"), active, standby, dir: at("state") };
        Bench { file, dir }
    }

    /// The same where no copy says what is there while the node does not serve.
    fn without_standby() -> Bench {
        let mut bench = Bench::new();
        bench.file.standby = None;
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.at(name)).ok()
    }

    fn ini(&self) -> Option<String> {
        self.read("notes.ini")
    }

    fn switch(&self, role: Role) -> Switched {
        self.file.switch(role).unwrap()
    }

    fn look(&self, role: Role) -> String {
        self.file.look(role).join("\n")
    }

    /// Everything that any file here holds.
    fn holds(&self, text: &str) -> bool {
        let files = fs::read_dir(self.dir.path()).unwrap().flatten();
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).any(|held| held == text)
    }
}

#[test]
fn each_role_has_its_copy_and_a_second_switch_changes_nothing() {
    let bench = Bench::new();
    for (role, text) in [(Role::Active, "serve"), (Role::Standby, "wait"), (Role::Active, "serve")] {
        assert_eq!(bench.switch(role), Switched { done: Done::Changed, told: None });
        assert_eq!(bench.ini().unwrap(), text);
        let inode = fs::metadata(bench.at("notes.ini")).unwrap().ino();
        assert_eq!(bench.switch(role).done, Done::Already);
        assert_eq!(fs::metadata(bench.at("notes.ini")).unwrap().ino(), inode);
        assert_eq!(bench.look(role), "");
    }
}

#[test]
fn owner_mode_and_attributes_are_those_of_the_copy() {
    let bench = Bench::new();
    fs::set_permissions(bench.at("active"), fs::Permissions::from_mode(0o640)).unwrap();
    let has_xattrs = setxattr(bench.at("active"), "user.origin", b"lyon", XattrFlags::empty()).is_ok();
    let may_give = std::os::unix::fs::chown(bench.at("active"), Some(1234), Some(4321)).is_ok();
    bench.switch(Role::Active);
    let meta = fs::metadata(bench.at("notes.ini")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o640);
    if may_give {
        assert_eq!((meta.uid(), meta.gid()), (1234, 4321));
    }
    if has_xattrs {
        let mut value = [0; 4];
        assert_eq!(getxattr(bench.at("notes.ini"), "user.origin", &mut value), Ok(4));
        assert_eq!(&value, b"lyon");
    }
    fs::set_permissions(bench.at("notes.ini"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(
        bench.look(Role::Active).contains("with mode 0600 or has other attributes"),
        "{}",
        bench.look(Role::Active)
    );
    assert_eq!(bench.switch(Role::Active).done, Done::Changed);
}

#[test]
fn without_a_copy_what_was_there_before_is_put_back() {
    let bench = Bench::without_standby();
    assert_eq!(bench.switch(Role::Standby).done, Done::Already, "it never served");
    bench.write("notes.ini", "as installed");
    bench.switch(Role::Active);
    assert_eq!(bench.ini().unwrap(), "serve");
    bench.switch(Role::Active);
    bench.switch(Role::Standby);
    assert_eq!(bench.ini().unwrap(), "as installed");
    assert_eq!(fs::read_dir(bench.at("state")).unwrap().count(), 0);

    fs::remove_file(bench.at("notes.ini")).unwrap();
    bench.switch(Role::Active);
    assert_eq!(bench.ini().unwrap(), "serve");
    bench.switch(Role::Standby);
    assert_eq!(bench.ini(), None, "nothing was there");
}

#[test]
fn a_file_is_made_with_the_paths_of_the_node_and_follows_what_it_is_made_from() {
    let mut bench = Bench::without_standby();
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let paths = vec![pair("/srv/notes", "/standby/notes"), pair("/standby/notes", "/standby/notes")];
    bench.file.active = Active::Made { from: bench.at("replicated.ini"), paths };
    bench.write("replicated.ini", "Directory=/srv/notes/data\n");
    bench.switch(Role::Active);
    assert_eq!(bench.ini().unwrap(), "Directory=/standby/notes/data\n");
    bench.write("replicated.ini", "Directory=/standby/notes/data\nMore=1\n");
    assert_eq!(bench.look(Role::Active), "");
    bench.switch(Role::Active);
    assert_eq!(bench.ini().unwrap(), "Directory=/standby/notes/data\nMore=1\n");
    fs::remove_file(bench.at("replicated.ini")).unwrap();
    assert!(bench.look(Role::Standby).contains("replicated.ini, from which"), "it is missed before the day");
}

#[test]
fn what_was_changed_by_hand_is_told_and_never_lost() {
    let bench = Bench::new();
    bench.switch(Role::Active);
    bench.write("notes.ini", "serve, by hand");
    assert!(bench.look(Role::Active).contains("was changed by hand since it was put there"));
    assert!(bench.file.drifted(Role::Active).unwrap().contains("was changed by hand since it was put there"));
    let again = bench.switch(Role::Active);
    assert!(again.told.unwrap().ends_with("and stays so"));
    assert_eq!(bench.ini().unwrap(), "serve, by hand");

    let back = bench.switch(Role::Standby);
    assert!(back.told.unwrap().contains("notes.ini.stead-kept-1"));
    assert_eq!(bench.file.drifted(Role::Standby), None);
    assert_eq!(bench.ini().unwrap(), "wait");
    assert_eq!(bench.read("notes.ini.stead-kept-1").unwrap(), "serve, by hand");
    assert!(bench.look(Role::Standby).contains("notes.ini.stead-kept-1 holds what"));

    for (text, kept) in [("wait, by hand", 2), ("serve, by hand", 1)] {
        bench.write("notes.ini", text);
        bench.switch(Role::Active);
        assert_eq!(bench.read(&format!("notes.ini.stead-kept-{kept}")).unwrap(), text);
        bench.switch(Role::Standby);
    }
    assert_eq!(bench.read("notes.ini.stead-kept-3"), None, "the same is kept once");
}

#[test]
fn a_copy_that_was_changed_takes_effect_at_the_next_switch() {
    let bench = Bench::new();
    bench.switch(Role::Active);
    bench.write("active", "serve otherwise");
    assert!(bench.look(Role::Active).contains("active was changed; "), "{}", bench.look(Role::Active));
    assert_eq!(bench.file.drifted(Role::Active), None, "the file is as it was put there");
    assert_eq!(bench.switch(Role::Active), Switched { done: Done::Changed, told: None });
    assert_eq!(bench.ini().unwrap(), "serve otherwise");
}

#[test]
fn what_is_missing_or_no_file_is_refused_and_nothing_is_changed() {
    let bench = Bench::new();
    fs::remove_file(bench.at("active")).unwrap();
    let why = bench.file.switch(Role::Active).unwrap_err().to_string();
    assert!(why.contains("active, from which") && why.ends_with("is not there"), "{why}");
    assert_eq!(bench.ini().unwrap(), "wait");
    assert!(bench.look(Role::Standby).contains("is not there"), "also where it is not needed yet");

    let bench = Bench::new();
    fs::remove_file(bench.at("notes.ini")).unwrap();
    symlink(bench.at("active"), bench.at("notes.ini")).unwrap();
    let why = bench.file.switch(Role::Standby).unwrap_err().to_string();
    assert!(why.contains("it is a symbolic link"), "{why}");
    bench.write("active", &"x".repeat((1 << 20) + 1));
    fs::remove_file(bench.at("notes.ini")).unwrap();
    assert!(bench.file.switch(Role::Active).unwrap_err().to_string().contains("longer than 1 MiB"));
    assert!(bench.file.look(Role::Active).len() == 1, "{:?}", bench.file.look(Role::Active));
}

#[test]
fn a_group_that_ends_keeps_what_was_there_before() {
    let bench = Bench::without_standby();
    bench.write("notes.ini", "as installed");
    bench.switch(Role::Active);
    assert_eq!(bench.file.release().unwrap(), Some(bench.at("notes.ini.stead-kept-1")));
    assert_eq!(bench.read("notes.ini.stead-kept-1").unwrap(), "as installed");
    assert_eq!(bench.ini().unwrap(), "serve");
    assert_eq!(Bench::new().file.release().unwrap(), None);
}

/// Has the power go before each change of a switch, after which another one is done.
fn whenever_the_power_goes(bench: impl Fn() -> Bench, first: Role, then: Role, is_right: impl Fn(&Bench)) {
    for changes in 0..100 {
        let bench = bench();
        LEFT.set(Some(changes));
        let ended = bench.file.switch(first);
        LEFT.set(None);
        if let Some(text) = bench.ini() {
            assert!(["serve", "wait", "by hand"].contains(&text.as_str()), "{text}: whole at any time");
        }
        bench.switch(then);
        is_right(&bench);
        if ended.is_ok() {
            assert!(changes > 1, "it changed nothing");
            return;
        }
    }
    panic!("it never ended");
}

#[test]
fn whenever_the_power_goes_it_is_finished_and_nothing_is_lost() {
    let edited = || {
        let bench = Bench::new();
        bench.write("notes.ini", "by hand");
        bench
    };
    let installed = || {
        let bench = Bench::without_standby();
        bench.write("notes.ini", "by hand");
        bench
    };
    let serving = || {
        let bench = installed();
        bench.switch(Role::Active);
        bench
    };
    let is = |text: &'static str| {
        move |bench: &Bench| {
            assert_eq!(bench.ini().unwrap(), text);
            assert!(!bench.at("state/next").exists() && bench.read("notes.ini.stead-kept-2").is_none());
        }
    };
    for (then, text) in [(Role::Active, "serve"), (Role::Standby, "wait")] {
        whenever_the_power_goes(edited, Role::Active, then, |bench| {
            is(text)(bench);
            assert!(bench.holds("by hand"));
        });
    }
    whenever_the_power_goes(installed, Role::Active, Role::Active, is("serve"));
    whenever_the_power_goes(installed, Role::Active, Role::Standby, is("by hand"));
    whenever_the_power_goes(serving, Role::Standby, Role::Standby, is("by hand"));
    whenever_the_power_goes(serving, Role::Standby, Role::Active, |bench| {
        is("serve")(bench);
        bench.switch(Role::Standby);
        is("by hand")(bench);
    });
}
