//! See [`netboot_load`].

fn main() -> anyhow::Result<()> {
    netboot_load::main()
}
