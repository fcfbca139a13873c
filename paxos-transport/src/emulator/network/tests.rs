//! Networks as text, and which link is between which nodes.

use super::*;

fn parse(text: &str) -> Network {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn problem(text: &str) -> String {
    match text.parse::<Network>() {
        Ok(network) => panic!("{text} is read as {network}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_profile_is_read_with_each_of_its_arguments_and_printed_as_it_was() {
    for profile in Network::PROFILES {
        let with_arguments = profile.arguments.iter().map(|argument| format!("{}:{argument}", profile.name));
        for text in [profile.name.to_owned()].into_iter().chain(with_arguments) {
            assert_eq!(parse(&text).to_string(), text);
            let changed = format!("{text},loss=7%");
            let network = parse(&changed);
            assert_eq!(network.to_string(), changed);
            assert_eq!(network.link(NodeId(1), NodeId(2)).loss.to_string(), "7%");
        }
        if let Some(first) = profile.arguments.first() {
            let (plain, with_first) = (parse(profile.name), parse(&format!("{}:{first}", profile.name)));
            assert_eq!(plain.regions, with_first.regions, "the first argument is the default");
        }
    }
}

#[test]
fn a_link_for_all_is_read_and_printed() {
    for text in [
        "delay=10ms",
        "delay=0s,rate=1500bit",
        "delay=1ms500us,jitter=250us,loss=1%,duplication=0.05%,reordering=7%,rate=100mbit,mtu=1280",
        "delay=1s,rate=2gbit,queue=0",
        "delay=10ms,rate=64kbit,queue=2MiB",
    ] {
        assert_eq!(parse(text).to_string(), text);
    }
    assert_eq!(parse(" delay=1.5ms, loss = 1 % "), parse("delay=1ms500us,loss=1%"));
    assert_eq!(parse("loss=1%").to_string(), "delay=0s,loss=1%", "what is not named is perfect");
}

#[test]
fn what_is_no_network_is_refused_with_what_there_is() {
    let unknown = problem("dialup");
    assert!(Network::PROFILES.iter().all(|profile| unknown.contains(profile.name)), "{unknown}");
    assert!(unknown.contains("dialup") && unknown.contains("delay=10ms"), "{unknown}");
    for (text, parts) in [
        ("wan:9-regions", vec!["wan", "9-regions", "2-regions, 4-regions"]),
        ("lan:fast", vec!["lan", "fast", "no argument"]),
        ("delay=10ms,los=1%", vec!["los", "delay, jitter, loss"]),
        ("wan,fast", vec!["fast", "KEY=VALUE", "delay, jitter, loss"]),
        ("delay=10", vec!["delay=10", "a time"]),
        ("delay=2min", vec!["delay=2min", "at most one minute"]),
        ("loss=101%", vec!["loss=101%", "a percentage"]),
        ("loss=0.01", vec!["loss=0.01", "a percentage"]),
        ("loss=NaN%", vec!["loss=NaN%", "a percentage"]),
        ("rate=0mbit", vec!["rate=0mbit", "a rate"]),
        ("rate=99999999999gbit", vec!["a rate"]),
        ("queue=-1", vec!["queue=-1", "a size"]),
        ("", vec!["there is no network \"\""]),
    ] {
        let problem = problem(text);
        assert!(parts.iter().all(|part| problem.contains(part)), "{text:?}: {problem}");
    }
}

#[test]
fn nodes_are_dealt_to_regions_in_turn() {
    let network = parse("wan:3-regions");
    let regions: Vec<usize> = (1..=7).map(|id| network.region(NodeId(id))).collect();
    assert_eq!(regions, [0, 1, 2, 0, 1, 2, 0]);
    let millis = |from, to| network.link(NodeId(from), NodeId(to)).delay.as_secs_f64() * 1000.0;
    assert_eq!((millis(1, 2), millis(3, 1), millis(2, 3)), (35.0, 32.0, 65.0));
    assert_eq!((millis(1, 4), millis(5, 2)), (0.5, 0.5), "nodes of one region are near each other");
}

#[test]
fn the_regions_of_wan_are_as_far_in_both_directions() {
    let network = parse("wan:5-regions");
    for (one, row) in network.regions.iter().enumerate() {
        for (two, link) in row.iter().enumerate() {
            assert_eq!(*link, network.regions[two][one]);
            assert_eq!(one == two, link.delay.as_millis() < 1, "{one} to {two}: {link}");
        }
    }
}

#[test]
fn links_between_regions_must_be_complete() {
    let link = Link::default;
    assert_eq!(Network::regions(Vec::new()), Err(NetworkError::NotSquare { regions: 0 }));
    let incomplete = vec![vec![link(), link()], vec![link()]];
    assert_eq!(Network::regions(incomplete), Err(NetworkError::NotSquare { regions: 2 }));
    let network = Network::regions(vec![vec![link()]]).expect("one region is enough");
    assert_eq!(network.link(NodeId(1), NodeId(2)), &link());
}

#[test]
fn a_pair_has_a_link_of_its_own_in_one_direction() {
    let slow: Link = "delay=40ms".parse().expect("it is a link");
    let network = parse("lan").with_link(NodeId(1), NodeId(2), slow.clone());
    assert_eq!(network.link(NodeId(1), NodeId(2)), &slow);
    assert_eq!(network.link(NodeId(2), NodeId(1)), parse("lan").link(NodeId(2), NodeId(1)));
    assert_eq!(network.to_string(), "lan; 1 to 2: delay=40ms");
}
