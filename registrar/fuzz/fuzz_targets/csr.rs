//! Any text as a certificate signing request: no panic, and nothing is let through that is not PEM of a request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registrar::csr;

fuzz_target!(|text: &str| {
    if let Ok(pem) = csr::check_kubelet_client(text, "w1") {
        assert!(pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"));
    }
});
