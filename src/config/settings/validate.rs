//! Settings of `validate`: flags go in, settings come out, or what is wrong with them.

use crate::{
    apisix::check::json::{DocumentKind, Release, ReleaseError},
    config::args::validate::{Kind, ValidateArgs},
};
use std::path::PathBuf;

/// Of `validate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidateSettings {
    /// What every document is.
    pub kind: DocumentKind,
    /// Whose rules count.
    pub release: Release,
    /// Where the documents are; `None`: in standard input.
    pub file: Option<PathBuf>,
}

impl ValidateSettings {
    /// Checks `args`.
    pub fn check(args: ValidateArgs) -> Result<Self, ReleaseError> {
        let ValidateArgs { kind, apisix_version, file } = args;
        let kind = match kind {
            Kind::StreamRoute => DocumentKind::StreamRoute,
            Kind::Upstream => DocumentKind::Upstream,
            Kind::Ssl => DocumentKind::Ssl,
        };
        let file = file.filter(|path| path.as_os_str() != "-");
        Ok(Self { kind, release: apisix_version.parse()?, file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::args::{Command, CommandLine};
    use clap::Parser as _;

    fn validate(arguments: &[&str]) -> Result<ValidateSettings, ReleaseError> {
        let line = ["x", "validate"].iter().chain(arguments);
        let Command::Validate(args) = CommandLine::try_parse_from(line).unwrap().command else {
            panic!("not validate")
        };
        ValidateSettings::check(args)
    }

    #[test]
    fn a_kind_is_enough_and_standard_input_is_read() {
        let settings = validate(&["--kind", "stream_route"]).unwrap();
        assert_eq!(settings.kind, DocumentKind::StreamRoute);
        assert_eq!(settings.release.to_string(), "3.13.0");
        assert_eq!(settings.file, None);
    }

    #[test]
    fn a_file_may_be_named_and_a_dash_is_standard_input() {
        assert_eq!(validate(&["--kind", "ssl", "a.jsonl"]).unwrap().file, Some("a.jsonl".into()));
        assert_eq!(validate(&["--kind", "upstream", "-"]).unwrap().file, None);
    }

    #[test]
    fn versions_are_taken_for_which_nothing_is_written() {
        let release = |text| validate(&["--kind", "ssl", "--apisix-version", text]).map(|settings| settings.release);
        assert_eq!(release("3.2.2"), Ok(Release::OLDEST));
        assert!(release("3.1").is_err() && release("4.0").is_err() && release("new").is_err());
    }
}
