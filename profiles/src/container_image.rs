//! Container images: the name, the source and the digest that pins it.

use crate::{
    compose::{Checked, fill},
    parameters::Parameters,
    shapes::ContainerImageSpec,
    template::ContainerImage,
    yaml::{Placed, Source},
};
use std::path::Path;

/// Reads one, with its name.
pub(crate) fn read(
    source: &Source,
    spec: &ContainerImageSpec,
    values: &Parameters,
) -> Checked<(String, ContainerImage)> {
    let reference = fill(source, &spec.reference, values)?;
    let path = fill(source, &spec.source, values)?;
    let digest = fill(source, &spec.digest, values)?;
    let wrong = |at: &Placed<String>, message: String, fix: &str| Err(source.problem(at, "bad-image", message, fix));
    let Some(by_digest) = parse(&reference) else {
        let message = format!("'{reference}' is not the whole name of a container image");
        return wrong(&spec.reference, message, "write HOST/NAME:TAG, as pods will name it");
    };
    if !Path::new(&path).is_absolute() {
        let message = format!("'{path}' is not an absolute path");
        return wrong(&spec.source, message, "write the path of an OCI archive or of the folder of an OCI layout");
    }
    if !is_digest(&digest) {
        let message = format!("'{digest}' is not a digest");
        return wrong(&spec.digest, message, "write sha256: and 64 hex digits, those of the image's manifest or index");
    }
    if by_digest.is_some_and(|named| named != digest) {
        let message = format!("the name asks for another digest than '{digest}'");
        return wrong(&spec.digest, message, "write the digest of the name, or name the image by a tag");
    }
    Ok((reference, ContainerImage { source: path.into(), digest }))
}

/// `HOST[:PORT]/NAME[/NAME…]`, then `:TAG` or `@DIGEST`, in the characters of the OCI Distribution Specification ("Pulling
/// manifests") and of the reference grammar of github.com/distribution/reference. Gives the digest, where there is one; `None` when the
/// text is none of it. A name without a host would mean different things to different runtimes.
fn parse(text: &str) -> Option<Option<&str>> {
    let (host, rest) = text.split_once('/')?;
    let host_characters = |b: u8| b.is_ascii_alphanumeric() || b".:-[]".contains(&b);
    let is_host = host == "localhost" || host.contains(['.', ':']);
    if text.len() > 255 || !is_host || !host.bytes().all(host_characters) {
        return None;
    }
    let (name, digest) = match rest.split_once('@') {
        Some((name, digest)) => (name, Some(digest).filter(|digest| is_digest(digest))?.into()),
        None => (rest, None),
    };
    let (name, tag) = match name.split_once(':') {
        Some((name, tag)) => (name, Some(tag)),
        None => (name, None),
    };
    let is_tag = |tag: &str| {
        let starts = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        starts && tag.len() <= 128 && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    let is_part = |part: &str| {
        let (first, last) = (part.bytes().next(), part.bytes().last());
        let ends = |end: Option<u8>| end.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        ends(first) && ends(last) && part.bytes().all(inner)
    };
    let fine = name.split('/').all(is_part) && tag.is_none_or(is_tag) && (tag.is_some() != digest.is_some());
    fine.then_some(digest)
}

fn is_digest(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_whole() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for fine in
            ["registry.example/pause:3.10", "localhost/a:b", "10.0.0.1:5000/shop/till_app:v1.2-3", "[fd00::1]:5000/a:1"]
        {
            assert_eq!(parse(fine), Some(None), "{fine}");
        }
        assert_eq!(parse(&format!("registry.example/pause@{digest}")), Some(Some(digest.as_str())));
        for bad in [
            "pause:3.10",
            "library/pause:3.10",
            "registry.example/pause",
            "registry.example/Pause:1",
            "registry.example//pause:1",
            "registry.example/-a:1",
            "registry.example/pause:",
            "registry.example/pause:1 2",
            "registry.example/pause@sha256:ab",
            "registry.example/pause:1@",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_a_name_has_no_blank_quote_or_control_character(text in "[a-z.]{1,5}[/:@ \"'a-z0-9\\n.]{0,30}") {
            if parse(&text).is_some() {
                prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\$`".contains(&b)));
            }
        }
    }
}
