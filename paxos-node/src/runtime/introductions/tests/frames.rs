//! Frames: each comes back as it was, and nothing else is taken for one.

use bytes::Bytes;
use paxos_core::message::NewEpoch;
use proptest::prelude::*;

use super::super::frame::{Answer, Difference, FrameError, News, PeerNews, Standing};
use super::*;

fn hello() -> Hello {
    let pairs = |name: &str| {
        BTreeMap::from([(String::from(name), String::from("v")), (String::from("a"), String::new())])
    };
    Hello {
        cluster: String::from("c"),
        storage: StorageId(5),
        standing: Standing::New { met: Some(FoundingId(3)) },
        settings: pairs("x"),
        facts: pairs("y"),
        absent: [THREE].into(),
        asks: true,
        reach: reach(6, 7),
        levels: Levels { oldest: FormatLevel(1), newest: FormatLevel(700), finalized: FormatLevel(2) },
    }
}

fn every_kind() -> Vec<Contents> {
    let answer = |refusal| Contents::Answer(Answer { to: start(3, 4), refusal });
    let difference = Difference { name: "n".into(), refusing: "1".into(), refused: String::new() };
    let known = KnownPeer { storage: StorageId(5), start: start(6, 7) };
    let news = News {
        checkpoints: vec![(Slot(3), 4), (Slot(1), 2)],
        peers: [
            (TWO, PeerNews { known, is_heard: true, reach: reach(1, 2) }),
            (THREE, PeerNews { known, is_heard: false, reach: reach(3, 4) }),
        ]
        .into(),
        reach: reach(4, 5),
    };
    vec![
        Contents::Hello(hello()),
        Contents::Hello(Hello { standing: Standing::Founded { id: None }, ..hello() }),
        answer(None),
        answer(Some(PeerRefusal::Settings(vec![difference.clone(), difference]))),
        answer(Some(PeerRefusal::OtherDisk { known: StorageId(8) })),
        answer(Some(PeerRefusal::OtherFounding)),
        answer(Some(PeerRefusal::Copy { known: start(8, 9) })),
        answer(Some(PeerRefusal::SharedStorage)),
        answer(Some(PeerRefusal::GivenUp { epoch: Epoch(7) })),
        Contents::Farewell,
        Contents::News(news),
    ]
}

/// A frame of each kind with a name, and the format level whose programs have written it first.
pub(crate) fn frames_of_every_kind() -> Vec<(u16, &'static str, Bytes)> {
    let known = known_at_level_1();
    let message = Message { epoch: Epoch(3), body: Body::NewEpoch(NewEpoch { chosen: Slot(5) }) };
    let message = wire::encode_behind(&frame::message_prefix(start(6, 7)), &message);
    let with_levels = (2, "hello-with-levels", Contents::Hello(hello()));
    let frames = known.into_iter().map(|(name, contents)| (1, name, contents)).chain([with_levels]);
    let frames = frames.map(|(level, name, contents)| (level, name, frame::encode(start(6, 7), &contents)));
    frames.chain([(1, "message", message)]).collect()
}

/// Whether a node takes bytes for a frame, with what is in it.
pub(crate) fn is_frame(bytes: Bytes) -> bool {
    match frame::decode(bytes) {
        Ok((_, Contents::Message(frame))) => decode_message(frame).is_ok(),
        decoded => decoded.is_ok(),
    }
}

/// What programs say that know no levels.
fn known_at_level_1() -> Vec<(&'static str, Contents)> {
    let names = [
        "hello",
        "hello-founded",
        "welcome",
        "refused-settings",
        "refused-disk",
        "refused-founding",
        "refused-copy",
        "refused-storage",
        "refused-given-up",
        "farewell",
        "news",
    ];
    let without_levels = |contents| match contents {
        Contents::Hello(hello) => Contents::Hello(Hello { levels: Levels::UNTOLD, ..hello }),
        other => other,
    };
    let contents: Vec<Contents> = every_kind().into_iter().map(without_levels).collect();
    assert_eq!(contents.len(), names.len(), "a new kind needs a name, and a level of its own");
    names.into_iter().zip(contents).collect()
}

/// Whether bytes are no frame, or one of a message that is none.
fn is_refused(frame: Vec<u8>) -> bool {
    match frame::decode(Bytes::from(frame)) {
        Err(_) => true,
        Ok((_, Contents::Message(frame))) => decode_message(frame).is_err(),
        Ok(_) => false,
    }
}

#[test]
fn no_flipped_bit_of_a_message_makes_it_one_of_another_start_or_a_frame_of_another_kind() {
    let frame = node(ONE, start(1, 2)).frame(&message());
    assert!(!is_refused(frame.to_vec()));
    for bit in 0..frame.len() * 8 {
        let mut flipped = frame.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(is_refused(flipped), "bit {bit}");
    }
}

#[test]
fn a_message_is_refused_behind_the_prefix_of_another_start() {
    let [frame, other] = [start(1, 2), start(2, 3)].map(|start| node(ONE, start).frame(&message()));
    let swallowed = [&other[..frame::PREFIX_BYTES], &frame[frame::PREFIX_BYTES..]].concat();
    assert!(is_refused(swallowed));
}

#[test]
fn every_kind_of_frame_comes_back_as_it_was_and_no_flipped_bit_passes() {
    for contents in every_kind() {
        let frame = frame::encode(start(1, 2), &contents);
        assert_eq!(frame::decode(frame.clone()), Ok((start(1, 2), contents.clone())));
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(is_refused(flipped), "bit {bit} of {contents:?}");
        }
        for length in 0..frame.len() {
            assert!(frame::decode(frame.slice(..length)).is_err(), "{length} bytes of {contents:?}");
        }
    }
}

/// The frame with `change` done to its fields, and the checksum right again.
fn with_fields(
    contents: &Contents,
    change: impl FnOnce(&mut Vec<u8>),
) -> Result<(Start, Contents), FrameError> {
    let frame = frame::encode(start(1, 2), contents);
    let (prefix, mut fields) =
        (frame[..frame::PREFIX_BYTES].to_vec(), frame[frame::PREFIX_BYTES + 4..].to_vec());
    change(&mut fields);
    let checksum = crc32c::crc32c(&[prefix.clone(), fields.clone()].concat());
    frame::decode(Bytes::from([prefix, checksum.to_le_bytes().to_vec(), fields].concat()))
}

#[test]
fn fields_may_be_added_and_none_may_come_twice_or_be_missing() {
    let hello = Contents::Hello(hello());
    let added = with_fields(&hello, |fields| fields.extend_from_slice(&[200, 2, 0, 7, 7]));
    assert_eq!(added, Ok((start(1, 2), hello.clone())), "a newer version may say more");
    let twice = with_fields(&hello, |fields| fields.extend_from_slice(&[1, 1, 0, b'c']));
    assert_eq!(twice, Err(FrameError::FieldTwice(1)));
    assert_eq!(with_fields(&hello, Vec::clear), Err(FrameError::MissingField(3)));
    assert_eq!(with_fields(&hello, |fields| fields.push(9)), Err(FrameError::Length));
    let unordered = with_fields(&hello, |fields| {
        let at =
            fields.windows(4).position(|bytes| bytes == [1, 0, b'a', 0]).expect("the pairs begin with a");
        fields[at + 2] = b'z';
    });
    assert_eq!(unordered, Err(FrameError::MalformedField(4)), "names come in order, each once");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, kind in 0u8..6, at in 0usize..200, with: u8) {
        fuzz(&bytes);
        fuzz(&[&[kind], &bytes[..]].concat());
        for contents in every_kind() {
            let _ = with_fields(&contents, |fields| if let Some(byte) = fields.get_mut(at) { *byte = with });
        }
    }
}
