//! Each option, right and wrong, and what must hold between them.

use std::path::Path;

use larder::{FlushTo, Writeback};

use super::*;
use crate::options::ExportTable;

fn with(change: impl FnOnce(&mut Options)) -> Result<Settings, String> {
    let mut options = Options {
        origins: vec!["/disk".into()],
        ..Options::default()
    };
    change(&mut options);
    Settings::new(&options)
}

fn message(change: impl FnOnce(&mut Options)) -> String {
    let message = with(change).expect_err("refused");
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn defaults_are_the_servers() {
    let settings = with(|_| {}).unwrap();
    let config = &settings.cache.config;
    assert_eq!(config.cache_on_read, CacheOnRead::Always);
    assert_eq!(config.dirty_age, Some(Duration::from_secs(30)));
    assert_eq!(config.max_size_bytes, None);
    assert_eq!(settings.max_connections, 1024);
    assert_eq!(settings.handshake_timeout, Duration::from_secs(10));
    assert_eq!(settings.origins.timeout, Duration::from_secs(30));
    assert_eq!(settings.tls.policy, TlsPolicy::Off);
    assert!(settings.listen.is_empty());
    assert!(!settings.read_only && !settings.verbose && !settings.exit_with_last_client);
}

#[test]
fn the_caches_parameters_have_the_filters_rules_and_words() {
    for (told, change) in [
        (
            "cache=none: must be writeback, writethrough or unsafe",
            (|options| options.cache = Some("none".into())) as fn(&mut Options),
        ),
        (
            "cache-max-size=64K: must be a size of at least 1M",
            |options| options.cache_max_size = Some("64K".into()),
        ),
        (
            "cache-low-threshold=95: must be less than cache-high-threshold, which is 95",
            |options| options.cache_low_threshold = Some("95".into()),
        ),
        (
            "cache-exports=shared: must be separate here: each export is an origin of its own",
            |options| options.cache_exports = Some("shared".into()),
        ),
        (
            "cache-dirty-age=0: must be off or a number of seconds, at least 1",
            |options| options.cache_dirty_age = Some("0".into()),
        ),
    ] {
        assert_eq!(message(change), told);
    }
    assert!(with(|options| options.cache_exports = Some("separate".into())).is_ok());
}

#[test]
fn a_cache_directory_is_taken_and_nothing_in_memory_is_kept_in_it() {
    let settings = with(|options| {
        options.cache_dir = Some("/c".into());
        options.cache_id = Some("golden".into());
    });
    let cache = settings.unwrap().cache;
    assert_eq!(cache.directory.as_deref(), Some(Path::new("/c")));
    assert_eq!(cache.config.cache_id.as_deref(), Some("golden"));
    let told = message(|options| {
        options.cache_dir = Some("/c".into());
        options.origins = vec!["a=/disk".into(), "b=memory:1M".into()];
    });
    assert_eq!(
        told,
        "cache-dir=/c: nothing can be kept of memory:1048576, which begins empty each time: leave one of them out"
    );
    let told = message(|options| options.cache_id = Some("golden".into()));
    assert_eq!(
        told,
        "cache-id=golden: has no effect without cache-dir=PATH"
    );
}

#[test]
fn flushes_end_in_a_cache_directory_where_there_is_one() {
    let settings = with(|options| {
        options.cache_dir = Some("/c".into());
        options.cache_flush = Some("cache".into());
    });
    let config = settings.unwrap().cache.config;
    assert_eq!(config.flush_to, FlushTo::Cache);
    assert_eq!(config.dirty_age, Some(Duration::from_secs(30)));
    assert_eq!(config.dirty_share_percent, Some(50));
    let settings = with(|options| options.cache_dirty_share = Some("20".into()));
    let config = settings.unwrap().cache.config;
    assert_eq!(config.flush_to, FlushTo::Origin);
    assert_eq!(config.dirty_share_percent, Some(20));
    assert_eq!(
        message(|options| options.cache_flush = Some("cache".into())),
        "cache-flush=cache: needs cache-dir=PATH, where flushed data is durable"
    );
    let told = message(|options| {
        options.cache_dir = Some("/c".into());
        options.cache_flush = Some("cache".into());
        options.cache = Some("unsafe".into());
    });
    assert_eq!(
        told,
        "cache-flush=cache: needs cache=writeback, not cache=unsafe"
    );
}

#[test]
fn the_origin_gets_flushes_in_order_where_that_is_asked_for() {
    let ordered = |options: &mut Options| {
        options.cache_dir = Some("/c".into());
        options.cache_flush = Some("cache".into());
        options.cache_writeback = Some("ordered".into());
    };
    let config = with(ordered).unwrap().cache.config;
    assert_eq!(config.writeback, Writeback::Ordered);
    assert_eq!(config.dirty_share_percent, None);
    assert_eq!(config.dirty_age, Some(Duration::from_secs(30)));
    let told = message(|options| {
        ordered(options);
        options.cache_dirty_share = Some("20".into());
    });
    assert!(
        told.starts_with("cache-dirty-share=20: must be left out with cache-writeback=ordered"),
        "{told}"
    );
    let told = message(|options| options.cache_writeback = Some("ordered".into()));
    assert!(
        told.starts_with("cache-writeback=ordered: needs cache-flush=cache"),
        "{told}"
    );
}

#[test]
fn values_that_cannot_be_are_told_with_what_would_be_right() {
    for (told, change) in [
        (
            "max-connections=0: must be a whole number, at least 1",
            (|options| options.max_connections = Some("0".into())) as fn(&mut Options),
        ),
        (
            "handshake-timeout=10s: must be a whole number of seconds, at least 1",
            |options| options.handshake_timeout = Some("10s".into()),
        ),
        (
            "origin-timeout=-1: must be a whole number of seconds, at least 1",
            |options| options.origin_timeout = Some("-1".into()),
        ),
        ("read-only=perhaps: must be true or false", |options| {
            options.read_only = Some("perhaps".into());
        }),
        ("pidfile=: must not be empty", |options| {
            options.pidfile = Some("".into());
        }),
        ("tls=yes: must be off, on or require", |options| {
            options.tls = Some("yes".into());
        }),
        (
            "tls-psk=keys: pre-shared keys are not supported: use certificates (tls-certificates=DIR)",
            |options| options.tls_psk = Some("keys".into()),
        ),
        (
            "tls-verify-peer=perhaps: must be true, false or optional",
            |options| {
                options.tls = Some("require".into());
                options.tls_verify_peer = Some("perhaps".into());
            },
        ),
        (
            "tls-verify-peer=true: needs tls=require: with tls=on, clients without TLS show no certificate; or say optional",
            |options| {
                options.tls = Some("on".into());
                options.tls_verify_peer = Some("true".into());
            },
        ),
        (
            "tls=require: needs tls-certificates=DIR with ca-cert.pem, server-cert.pem and server-key.pem",
            |options| options.tls = Some("require".into()),
        ),
        (
            "tls-certificates=/pki: has no effect without tls=on or tls=require",
            |options| options.tls_certificates = Some("/pki".into()),
        ),
        (
            "socket-mode=660: needs a Unix socket that is made here: listen=unix:PATH",
            |options| options.socket_mode = Some("660".into()),
        ),
        (
            "socket-mode=rw: must be permissions in octal, such as 660",
            |options| options.socket_mode = Some("rw".into()),
        ),
        (
            "listen=1234: must be unix:PATH or tcp:HOST:PORT",
            |options| options.listen = vec!["1234".into()],
        ),
    ] {
        assert_eq!(message(change), told);
    }
}

#[test]
fn socket_permissions_are_octal() {
    for (text, mode) in [("660", 0o660), ("0600", 0o600), ("777", 0o777)] {
        let settings = with(|options| {
            options.listen = vec!["unix:/s".into()];
            options.socket_mode = Some(text.into());
        });
        assert_eq!(settings.unwrap().socket.mode, Some(mode));
    }
    for text in ["", "888", "1777", "+60", "0o660"] {
        assert!(with(|options| options.socket_mode = Some(text.into())).is_err());
    }
}

#[test]
fn headers_are_not_shown() {
    let settings = with(|options| {
        options.origins = vec!["http://host/".into()];
        options.http_header = vec!["Authorization: key".into()];
    });
    let settings = settings.unwrap();
    assert_eq!(settings.exports[0].http_headers.pairs().len(), 1);
    assert!(!format!("{settings:?}").contains("key"));
}

fn table(name: &str, origin: &str, headers: &[&str]) -> ExportTable {
    ExportTable {
        name: name.to_owned(),
        origin: origin.to_owned(),
        description: None,
        http_header: headers.iter().map(|header| (*header).into()).collect(),
    }
}

#[test]
fn headers_go_to_one_server_or_to_the_export_that_they_are_of() {
    let given = |headers: &[&str], tables: &[ExportTable]| {
        let settings = with(|options| {
            options.origins = Vec::new();
            options.export = tables.to_vec();
            options.http_header = headers.iter().map(|header| (*header).into()).collect();
        });
        let exports = settings.map(|settings| settings.exports)?;
        let names = |export: &ExportSettings| {
            let pairs = export.http_headers.pairs().iter();
            pairs
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
                .join(" ")
        };
        Ok::<_, String>(exports.iter().map(names).collect::<Vec<_>>())
    };
    let plain = |origin| table(origin, origin, &[]);
    let one_server = [
        plain("http://me:pw@host/a"),
        plain("http://HOST:80/b?c"),
        plain("/disk"),
    ];
    assert_eq!(
        given(&["X: 1", "Y: 2"], &one_server).unwrap(),
        ["X Y", "X Y", ""]
    );
    let own = table("o", "https://other/", &["Z: s3cret"]);
    assert_eq!(
        given(&["X: 1"], &[plain("http://host/"), own.clone()]).unwrap(),
        ["X", "Z"]
    );
    for (headers, tables, told) in [
        (
            &["X: s3cret"][..],
            &[
                plain("http://host/a"),
                plain("http://s3cret@host:81/s3cret"),
            ][..],
            "http-header: would go to http://host and to http://host:81: say in a configuration file",
        ),
        (
            &["X: s3cret"],
            &[plain("http://host/a"), plain("https://host/a")],
            "http-header: would go to http://host and to https://host: ",
        ),
        (
            &["X: s3cret"],
            &[plain("/disk")],
            "http-header: has no effect without an http:// or https:// origin that has none of its own",
        ),
        (&["X: s3cret"], &[own], "http-header: has no effect without"),
        (
            &[],
            &[table("x", "/disk", &["X: s3cret"])],
            "export \"x\": http-header: has no effect without an http:// or https:// origin",
        ),
        (
            &[],
            &[table("x", "http://host/", &["s3cret"])],
            "export \"x\": http-header: must be 'Name: value'",
        ),
    ] {
        let error = given(headers, tables).unwrap_err();
        assert!(error.starts_with(told), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn authorities_are_for_origins_that_may_use_tls() {
    let with_origin = |origin: &str| {
        with(|options| {
            options.origins = vec![origin.into()];
            options.origin_tls_ca = Some("/ca.pem".into());
        })
    };
    for origin in [
        "nbds://host",
        "nbds+unix:///?socket=/s",
        "https://host/",
        "http://host/",
    ] {
        let tls_ca = with_origin(origin).unwrap().origins.tls_ca;
        assert_eq!(tls_ca.as_deref(), Some(Path::new("/ca.pem")));
    }
    for origin in ["/disk", "memory:1M", "nbd://host"] {
        assert_eq!(
            with_origin(origin).unwrap_err(),
            "origin-tls-ca=/ca.pem: has no effect without an nbds://, nbds+unix://, https:// or http:// origin"
        );
    }
}
