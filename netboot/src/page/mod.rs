//! The store page: what each machine is doing and what to do about it, for people who are not technicians.
//!
//! [`situation`] decides what is said, purely; [`html`] and [`machine`] write it down in the words of [`words`]; [`live`]
//! bounds how many pages are kept up to date. Style and script are files of their own (`assets/`), served from here: the
//! page loads nothing from elsewhere and holds no inline script or style, so its Content-Security-Policy allows none.

pub mod config;
pub mod html;
pub mod live;
pub mod machine;
pub mod situation;
pub mod state;
pub mod window;
pub mod words;

/// The style sheet.
pub const STYLE: &str = include_str!("assets/style.css");
/// The script that keeps an open page up to date.
pub const SCRIPT: &str = include_str!("assets/page.js");
/// The icon in the browser's tab.
pub const ICON: &str = include_str!("assets/icon.svg");

/// What the page's answers allow: this server's own style, script, picture and live updates, and forms to it. Nothing inline.
pub const SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                                   connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod style_tests;
#[cfg(test)]
mod testing;
