//! The deployment as far as it can be checked without a container engine: every file parses, what refers to another thing
//! refers to one that exists, images are pinned, nothing is more open than it says, and every query asks for metrics that
//! Weir has.

mod queries;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map(|items| items.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// Every value of a key, anywhere inside.
fn all<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                if name == key {
                    found.push(inner);
                }
                found.extend(all(inner, key));
            }
        }
        Value::Array(items) => items.iter().for_each(|inner| found.extend(all(inner, key))),
        _ => {}
    }
    found
}

fn services() -> BTreeMap<String, Value> {
    let compose = yaml("docker-compose.yml");
    compose["services"].as_object().unwrap().iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

/// The instructions of the Dockerfile, continued lines joined.
fn dockerfile() -> Vec<(String, String)> {
    let text = text("deploy/Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(a, b)| (a.to_owned(), b.trim().to_owned())).collect()
}

fn image_environment() -> BTreeMap<String, String> {
    let env = dockerfile().into_iter().filter(|(word, _)| word == "ENV");
    let pairs: Vec<String> =
        env.flat_map(|(_, rest)| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    pairs.iter().map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&name, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(name);
        }
    }
    found
}

#[test]
fn every_file_parses() {
    let yamls = [files("deploy", "yml"), files("deploy", "yaml")].concat();
    assert!(yamls.len() >= 5, "{yamls:?}");
    for file in yamls {
        assert!(yaml(&file).is_object(), "{file}");
    }
    let dashboards = files("deploy", "json");
    assert_eq!(dashboards, ["deploy/grafana/dashboards/weir.json"]);
    assert!(serde_json::from_str::<Value>(&text(&dashboards[0])).unwrap().is_object());
}

#[test]
fn every_mount_exists_and_is_where_it_is_looked_for() {
    let mut targets = Vec::new();
    let declared = yaml("docker-compose.yml")["volumes"].clone();
    for (name, service) in services() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let (source, target) = (volume["source"].as_str().unwrap(), volume["target"].as_str().unwrap());
            match volume["type"].as_str().unwrap() {
                "bind" => {
                    assert!(root().join(source).exists(), "{name}: {source}");
                    assert_eq!(volume["read_only"], true, "{name}: {source}");
                    targets.push((source.to_owned(), target.to_owned()));
                }
                "volume" => assert!(declared.get(source).is_some(), "{name}: {source}"),
                other => panic!("{name}: {other}"),
            }
        }
        if let Some(build) = service.get("build") {
            let context = Path::new(build["context"].as_str().unwrap());
            assert!(root().join(context).join(build["dockerfile"].as_str().unwrap()).exists());
        }
    }
    let inside = |path: &str| {
        targets.iter().any(|(source, target)| {
            path.strip_prefix(target.as_str()).is_some_and(|rest| root().join(format!("{source}{rest}")).exists())
        })
    };
    let services = services();
    let commands = services.values().flat_map(|service| strings(&service["command"]));
    let paths = commands.filter_map(|word| word.rsplit('=').next()).filter(|word| word.starts_with("/etc/"));
    let mut wanted: Vec<String> = paths.map(str::to_owned).collect();
    wanted.extend(strings(&yaml("deploy/prometheus/prometheus.yml")["rule_files"]).into_iter().map(str::to_owned));
    let provider = yaml("deploy/grafana/provisioning/dashboards/weir.yml");
    wanted.extend(all(&provider, "path").iter().filter_map(|path| path.as_str()).map(str::to_owned));
    wanted.push(
        services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().unwrap().to_owned(),
    );
    assert!(wanted.len() >= 5, "{wanted:?}");
    for path in wanted {
        assert!(inside(&path), "{path} is not mounted");
    }
}

#[test]
fn ports_and_names_agree() {
    let (env, services) = (image_environment(), services());
    let port = |name: &str| env[name].parse::<u64>().unwrap();
    let (http, grpc, ops) = (port("WEIR_HTTP_PORT"), port("WEIR_GRPC_PORT"), port("WEIR_OPS_PORT"));
    let exposed = dockerfile().into_iter().find(|(word, _)| word == "EXPOSE").unwrap().1;
    assert_eq!(exposed, format!("{http} {grpc} {ops}"));

    let envoy = yaml("deploy/envoy.yaml");
    let resources = &envoy["static_resources"];
    let listeners: Vec<u64> = all(&resources["listeners"], "port_value").iter().map(|p| p.as_u64().unwrap()).collect();
    for (cluster, wanted) in [("weir_http", http), ("weir_grpc", grpc)] {
        let clusters = resources["clusters"].as_array().unwrap();
        let cluster = clusters.iter().find(|known| known["name"] == cluster).unwrap();
        assert_eq!(all(cluster, "port_value"), [wanted]);
        assert_eq!(all(cluster, "address").last().unwrap().as_str(), Some("weir"));
        assert_eq!(all(cluster, "health_checks").len(), 1);
    }
    for route in all(&resources["listeners"], "cluster") {
        assert!(resources["clusters"].as_array().unwrap().iter().any(|known| known["name"] == *route), "{route}");
    }
    let published: Vec<u64> = strings(&services["envoy"]["ports"]).iter().map(|p| inner_port(p)).collect();
    assert_eq!(published, listeners);

    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let scrape = &prometheus["scrape_configs"][0];
    assert_eq!(scrape["dns_sd_configs"][0]["port"], ops);
    for name in strings(&scrape["dns_sd_configs"][0]["names"]) {
        assert!(services.contains_key(name), "{name}");
    }
    let source = yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"][0].clone();
    let (host, port) = source["url"].as_str().unwrap().strip_prefix("http://").unwrap().split_once(':').unwrap();
    assert_eq!(inner_port(strings(&services[host]["ports"])[0]).to_string(), port);
    assert_eq!(source["jsonData"]["timeInterval"], prometheus["global"]["scrape_interval"]);
}

/// The container's port of a published one, which must be on loopback.
fn inner_port(published: &str) -> u64 {
    let parts: Vec<&str> = published.split(':').collect();
    let ["127.0.0.1", _, inner] = *parts else { panic!("{published} is open to the network") };
    inner.parse().unwrap()
}

#[test]
fn images_are_pinned() {
    let pinned = |image: &str| {
        let tag = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag")).1;
        // At least major and minor: "12" or "bookworm-slim" move.
        assert!(
            tag.split('.').count() >= 2 && tag.chars().any(|c| c.is_ascii_digit()) && !tag.contains("latest"),
            "{image}"
        );
    };
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        pinned(image);
        if service.get("build").is_some() {
            assert_eq!(image, concat!("weir:", env!("CARGO_PKG_VERSION")));
        }
    }
    let from: Vec<String> = dockerfile().into_iter().filter(|(word, _)| word == "FROM").map(|(_, rest)| rest).collect();
    assert_eq!(from.len(), 2);
    from.iter().for_each(|image| pinned(image.split_whitespace().next().unwrap()));
    let toolchain: toml_edit::DocumentMut = text("rust-toolchain.toml").parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    assert!(from[0].starts_with(&format!("rust:{channel}-")), "{} is not {channel}", from[0]);
    assert_eq!(image_environment()["RUSTUP_TOOLCHAIN"], channel);
}

#[test]
fn the_gateway_runs_with_no_rights() {
    let value = |word: &str| dockerfile().into_iter().rfind(|(known, _)| known == word).map(|(_, rest)| rest).unwrap();
    let user = value("USER");
    assert!(user.split(':').all(|id| id.parse::<u32>().unwrap() > 0), "{user}");
    assert_eq!(value("STOPSIGNAL"), "SIGTERM");
    assert!(value("HEALTHCHECK").ends_with(r#"CMD ["weir", "healthcheck"]"#));
    assert_eq!(value("ENTRYPOINT"), r#"["weir"]"#);

    let services = services();
    let weir = &services["weir"];
    assert_eq!(weir["read_only"], true);
    assert_eq!(strings(&weir["cap_drop"]), ["ALL"]);
    assert!(weir.get("ports").is_none(), "replicas are reached through the load balancer");
    assert!(weir["deploy"]["replicas"].as_u64().unwrap() >= 2);
    let mounts = all(weir, "target");
    assert_eq!(value("CMD"), format!(r#"["serve", {}]"#, mounts[0]));
    let seconds = |key: &str| weir["environment"][key].as_str().unwrap().parse::<f64>().unwrap() / 1000.0;
    let grace: f64 = weir["stop_grace_period"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    assert!(grace > seconds("WEIR_DRAIN_NOTICE_MS") + seconds("WEIR_DRAIN_TIMEOUT_MS"));

    let env = image_environment();
    assert_ne!(env["WEIR_OPS_HOST"], "127.0.0.1");
    assert_eq!(env["WEIR_OPS_READONLY"], "true");
    let given: String = [text("docker-compose.yml"), text("deploy/Dockerfile")].concat();
    assert!(!given.contains("INSECURE"));
}

#[test]
fn the_build_gets_every_file_that_it_needs() {
    let ignored: Vec<String> = text("deploy/Dockerfile.dockerignore")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    for needed in ["Cargo.toml", "Cargo.lock", "build.rs", "proto", "src", "benches", "loadtest", "tests/it/main.rs"] {
        assert!(root().join(needed).exists(), "{needed}");
        let hidden = |pattern: &String| Path::new(needed).starts_with(pattern);
        assert!(!ignored.iter().any(hidden), "{needed} is ignored");
    }
}

/// Queries with the labels that their legends and texts use.
fn check(place: &str, query: &str, text: &str, mark: (&str, &str)) {
    let parsed = queries::read(query);
    assert!(!parsed.metrics.is_empty(), "{place}: {query}");
    let mentioned: Vec<&str> =
        text.split(mark.0).skip(1).filter_map(|rest| rest.split(mark.1).next()).map(str::trim).collect();
    let wrong = queries::unknown(&parsed, &mentioned);
    assert!(wrong.is_empty(), "{place}: {wrong:?} in {query}");
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/dashboards/weir.json")).unwrap();
    let source = yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"][0]["uid"].clone();
    assert!(all(&dashboard, "datasource").iter().all(|used| used["uid"] == source));
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
    let mut queries = String::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            check(title, query, target["legendFormat"].as_str().unwrap(), ("{{", "}}"));
            queries.push_str(query);
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        check(
            "annotation",
            annotation["expr"].as_str().unwrap(),
            annotation["titleFormat"].as_str().unwrap(),
            ("{{", "}}"),
        );
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    for variable in variables {
        check("variable", variable["query"]["query"].as_str().unwrap(), "", ("{{", "}}"));
        assert!(queries.contains(&format!("${}", variable["name"].as_str().unwrap())));
    }
    for shown in
        ["weir_request_duration_seconds_bucket", "weir_score_bucket", "weir_requests_total", "weir_batch_rows_bucket"]
    {
        assert!(queries.contains(shown), "{shown} is not shown");
    }
}

#[test]
fn the_alerts_ask_for_metrics_that_exist() {
    let alerts = yaml("deploy/prometheus/alerts.yml");
    let rules = all(&alerts, "rules");
    let rules: Vec<&Value> = rules.iter().flat_map(|rules| rules.as_array().unwrap()).collect();
    assert!(!rules.is_empty());
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        check(
            name,
            rule["expr"].as_str().unwrap(),
            rule["annotations"]["summary"].as_str().unwrap(),
            ("$labels.", " }}"),
        );
        assert!(rule["labels"]["severity"].is_string(), "{name}");
    }
}
