//! Every option by its name, and what the command line makes of those of a file.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_option_is_known_by_its_name() {
    let command = Options::augment_args(clap::Command::new("serve"));
    let arguments = command.get_arguments().filter_map(clap::Arg::get_long);
    let typed: BTreeSet<&str> = arguments.filter(|name| *name != "config").collect();
    let names: BTreeSet<&str> = Options::names().into_iter().collect();
    let names_typed = &typed | &BTreeSet::from(["origins", "export"]);
    assert_eq!(names, names_typed);
    for name in larder_frontend::spelling::NAMES {
        assert!(names.contains(name), "{name}");
    }
    for name in names {
        assert!(!Options::default().says(name), "{name}");
    }
}

#[test]
fn what_is_typed_makes_idle_options_of_a_file_nothing() {
    let file = Options {
        tls: Some("require".into()),
        tls_certificates: Some("/pki".into()),
        tls_verify_peer: Some("true".into()),
        listen: vec!["unix:/s".into()],
        socket_mode: Some("660".into()),
        socket_owner: Some("me".into()),
        cache_flush: Some("cache".into()),
        cache_writeback: Some("ordered".into()),
        ..Options::default()
    };
    let typed = Options {
        tls: Some("off".into()),
        listen: vec!["tcp:localhost:0".into()],
        cache_flush: Some("origin".into()),
        ..Options::default()
    };
    let merged = typed.over(file.clone());
    for name in [
        "tls-certificates",
        "tls-verify-peer",
        "socket-mode",
        "socket-owner",
        "cache-writeback",
    ] {
        assert!(!merged.says(name), "{name}");
    }
    // What is typed itself is not dropped, and nor is what goes on to have an effect.
    let typed = Options {
        tls: Some("off".into()),
        tls_certificates: Some("/mine".into()),
        listen: vec!["unix:/t".into()],
        ..Options::default()
    };
    let merged = typed.over(file);
    assert_eq!(merged.tls_certificates, Some("/mine".into()));
    assert_eq!(merged.socket_mode, Some("660".into()));
    assert_eq!(merged.cache_writeback, Some("ordered".into()));
    assert!(!merged.says("tls-verify-peer"));
}

#[test]
fn a_files_headers_and_authorities_are_for_the_files_origins() {
    let file = Options {
        origins: vec!["https://one/x".into()],
        http_header: vec!["Authorization: secret".into()],
        origin_tls_ca: Some("/ca".into()),
        ..Options::default()
    };
    let beside = |origin: &str| {
        let typed = Options {
            origins: vec![origin.into()],
            ..Options::default()
        };
        let merged = typed.over(file.clone());
        (merged.says("http-header"), merged.says("origin-tls-ca"))
    };
    assert_eq!(beside("memory:1G"), (false, false));
    assert_eq!(beside("a=https://another/x"), (false, true));
    assert_eq!(beside("nbds://h"), (false, true));
    let merged = Options::default().over(file.clone());
    assert!(merged.says("http-header") && merged.says("origin-tls-ca"));
}
