//! What the world is made of, each made once and kept in the cache: the lab tree with QEMU and the network
//! programs, Kubernetes, our own programs, the image.

pub mod browser;
pub mod builders;
pub mod ceph;
pub mod container;
pub mod export;
pub mod image;
pub mod install_peers;
pub mod kubernetes;
pub mod lab;
pub mod neighbours;
pub mod netboot_peers;
pub mod openstack;
pub mod programs;
pub mod region;
pub mod site;
pub mod tree;
