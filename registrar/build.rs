//! Tells cargo that the migrations are part of the crate: `sqlx::migrate!` reads them at compile time.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
