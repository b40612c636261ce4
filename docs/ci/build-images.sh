#!/bin/sh
# What a pipeline does with a Git repository of templates. The GitHub and GitLab workflows beside this file call it, and
# `cargo xtask e2e ci` runs it as a user without root.
#
#   TEMPLATES     folder with *.yaml and their *.lock        AGENT         firstboot-agent, static
#   SETTINGS      values of parameters (optional)            REGISTRAR_CA  the registrar's certificates
#   KEYS          key set without the root key               REPOSITORY    folder that a web server or bucket serves
#   CHANNEL       channel of the new images [candidate]      TRUST         1.root.json, as machines have it
set -eu

settings() { if [ -n "${SETTINGS:-}" ]; then printf '%s\n' "--settings=$SETTINGS"; fi; }

echo "== check: every mistake at once, before anything is fetched"
# shellcheck disable=SC2046
image-builder check $(settings) "$TEMPLATES"/*.yaml

# One commit, one version: a pipeline that runs again makes nothing new.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -C "$TEMPLATES" log -1 --format=%ct)
    export SOURCE_DATE_EPOCH
fi

for template in "$TEMPLATES"/*.yaml; do
    echo "== build: $template"
    # shellcheck disable=SC2046
    image-builder build "$template" $(settings) --locked --if-missing --keys "$KEYS" --agent "$AGENT" \
        --registrar-ca "$REGISTRAR_CA" --repository "$REPOSITORY" --channel "${CHANNEL:-candidate}"
done

echo "== verify: from nothing but the root of trust, as a stranger would"
image-builder repo verify "$REPOSITORY" --root "$TRUST"
