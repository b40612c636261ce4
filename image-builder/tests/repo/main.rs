//! The commands that look after a repository: the real program against real repositories in folders.

mod gc;
mod keys;
mod kill;
mod lists;
mod mirror;
mod python_tuf;
mod server;
mod softhsm;
mod verify;
mod world;
