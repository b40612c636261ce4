//! The targets key in a PKCS#11 module: SoftHSM, a module in software, from Debian.

use crate::world::{World, said};
use std::{
    fs,
    process::{Command, Output},
};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "5678";

/// A token with a P-256 key, in the world's folder.
struct Module<'a>(&'a World);

impl<'a> Module<'a> {
    fn new(world: &'a World, ids: &[&str]) -> Self {
        let module = Self(world);
        fs::create_dir(world.path("tokens")).unwrap();
        let settings = format!("directories.tokendir = {}\n", world.path("tokens").display());
        fs::write(world.path("softhsm2.conf"), settings).unwrap();
        module.tool("softhsm2-util", &["--init-token", "--free", "--label", "ci", "--so-pin", "1234", "--pin", PIN]);
        for id in ids {
            let login = ["--module", MODULE, "--token-label", "ci", "--login", "--pin", PIN];
            let make = ["--keypairgen", "--key-type", "EC:prime256v1", "--id", id];
            module.tool("pkcs11-tool", &[&login[..], &make].concat());
        }
        module
    }

    fn tool(&self, program: &str, arguments: &[&str]) {
        let output = self.environment(Command::new(program).args(arguments)).output();
        let output = output.unwrap_or_else(|error| panic!("{program} (Debian's softhsm2 and opensc): {error}"));
        assert!(output.status.success(), "{}", said(&output));
    }

    fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("SOFTHSM2_CONF", self.0.path("softhsm2.conf"))
    }

    fn run(&self, arguments: &str, pin: Option<&str>) -> Output {
        let mut command = self.0.command(arguments);
        command.env_remove("SHELFBOOT_PKCS11_PIN");
        if let Some(pin) = pin {
            command.env("SHELFBOOT_PKCS11_PIN", pin);
        }
        let output = self.environment(&mut command).output().unwrap();
        assert!(!said(&output).contains(PIN), "{}", said(&output));
        output
    }

    fn good(&self, arguments: &str) {
        let output = self.run(arguments, Some(PIN));
        assert!(output.status.success(), "{arguments}: {}", said(&output));
    }
}

fn uri(id: &str) -> String {
    format!("pkcs11:token=ci;id=%{id}?module-path={MODULE}")
}

#[tokio::test]
#[ignore = "needs Debian's softhsm2 and opensc; cargo xtask test brings them"]
async fn softhsm_signs_what_is_published() {
    let world = World::new(&["1", "2"]).await;
    let module = Module::new(&world, &["01", "02"]);
    module.good(&format!("keys rotate targets --keys @keys --public-key {}", uri("01")));
    assert!(!world.path("keys/tuf/targets.pk8").exists() && world.path("keys/tuf/targets.pkcs11").exists());
    module.good("repo refresh @repo --keys @keys");
    world.assert_verified("repo");
    module.good("repo channel set @repo till stable 1 --keys @keys");
    world.assert_verified("repo");
    assert_eq!(world.stable("repo"), "1");
    let change = "repo channel set @repo till stable 2 --keys @keys";
    for (pin, code) in [(Some("0000"), 1), (None, 1)] {
        let refused = module.run(change, pin);
        assert_eq!(refused.status.code(), Some(code), "{}", said(&refused));
    }
    world.assert_verified("repo");
    let shown = module.run("keys show --keys @keys", None);
    assert!(said(&shown).contains("targets.pkcs11"), "{}", said(&shown));
    // A PIN in a file, and the module's key in the environment in place of the file.
    fs::write(world.path("pin"), format!("{PIN}\n")).unwrap();
    let with_pin = format!("{}&pin-source=file:{}", uri("01"), world.path("pin").display());
    fs::remove_file(world.path("keys/tuf/targets.pkcs11")).unwrap();
    let mut command = world.command(change);
    let output = module.environment(&mut command).env("SHELFBOOT_TARGETS_KEY", with_pin).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(world.stable("repo"), "2");
    world.assert_verified("repo");
    module.good(&format!("keys rotate targets --keys @keys --public-key {}", uri("02")));
    module.good("repo refresh @repo --keys @keys");
    world.assert_verified("repo");
}

#[tokio::test]
#[ignore = "needs Debian's softhsm2 and opensc; cargo xtask test brings them"]
async fn softhsm_holds_the_key_from_the_beginning() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    let module = Module::new(&world, &["01"]);
    let missing = module.run(&format!("keys init --out @keys --targets-key {}", uri("09")), None);
    assert_eq!(missing.status.code(), Some(1), "{}", said(&missing));
    assert!(!world.path("keys").exists());
    let wrong = module.run("keys init --out @keys --targets-key pkcs11:token=ci", None);
    assert_eq!(wrong.status.code(), Some(3), "{}", said(&wrong));
    module.good(&format!("keys init --out @keys --targets-key {}", uri("01")));
    let files = crate::world::files(&world.path("keys"));
    assert!(!files.iter().any(|path| path.contains("targets.pk8")), "{files:?}");
}

/// Debian's sbverify is not asked here: `cargo xtask e2e secure-boot` has real firmware look at what is signed in this way.
#[tokio::test]
#[ignore = "needs Debian's softhsm2 and opensc; cargo xtask test brings them"]
async fn softhsm_signs_what_firmware_starts() {
    let world = World::new(&[]).await;
    let module = Module::new(&world, &[]);
    fs::write(world.path("program.efi"), crate::world::program()).unwrap();
    world.good("keys sign-efi @program.efi --out @by-file.efi --keys @keys");
    // The same key in the module signs the same bytes.
    let key = fs::read_to_string(world.path("keys/secure-boot/db.key")).unwrap();
    let body: String = key.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
    fs::write(world.path("db.der"), der).unwrap();
    let path = world.path("db.der");
    let login = ["--module", MODULE, "--token-label", "ci", "--login", "--pin", PIN];
    let import = ["--type", "privkey", "--id", "0a", "--write-object", path.to_str().unwrap()];
    module.tool("pkcs11-tool", &[&login[..], &import].concat());
    fs::remove_file(world.path("keys/secure-boot/db.key")).unwrap();
    fs::write(world.path("keys/secure-boot/db.pkcs11"), uri("0a")).unwrap();
    module.good("keys sign-efi @program.efi --out @by-module.efi --keys @keys");
    assert_eq!(fs::read(world.path("by-file.efi")).unwrap(), fs::read(world.path("by-module.efi")).unwrap());
    let again = module.run("keys sign-efi @by-file.efi --out @twice.efi --keys @keys", Some(PIN));
    assert_eq!(again.status.code(), Some(3), "{}", said(&again));
    let pin = module.run("keys sign-efi @program.efi --out @none.efi --keys @keys", None);
    assert!(!pin.status.success() && !world.path("none.efi").exists(), "{}", said(&pin));
    // A certificate of another key: firmware would refuse what it signs.
    fs::copy(world.path("keys/secure-boot/KEK.crt"), world.path("keys/secure-boot/db.crt")).unwrap();
    let other = module.run("keys sign-efi @program.efi --out @none.efi --keys @keys", Some(PIN));
    assert!(said(&other).contains("not the key of db.crt") && !world.path("none.efi").exists(), "{}", said(&other));
}
