"""Notifications of S3 in the shapes they are recorded in, and in shapes nobody should send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import EventError
from tasks.sources.events import (
    Change,
    ObjectEvent,
    events_of,
    is_older,
    latest,
    parse_events,
    parse_lines,
)


def record(key: str = "a.png", name: str = "ObjectCreated:Put", **kept: Any) -> dict[str, Any]:
    """As the documentation of S3 shows it."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-west-2",
        "eventTime": "1970-01-01T00:00:00.000Z",
        "eventName": name,
        "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyU"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "testConfigRule",
            "bucket": {
                "name": "amzn-s3-demo-bucket",
                "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": "arn:aws:s3:::amzn-s3-demo-bucket",
            },
            "object": {
                "key": key,
                "size": 1024,
                "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                "sequencer": "0055AED6DCD90281E5",
            }
            | kept,
        },
    }


RAW = {"Records": [record()]}
SNS = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
    "Subject": "Amazon S3 Notification",
    "Message": json.dumps(RAW),
    "Timestamp": "2012-05-02T00:54:06.655Z",
    "SignatureVersion": "1",
}
SQS = {
    "Messages": [
        {"MessageId": "m", "ReceiptHandle": "r", "MD5OfBody": "x", "Body": json.dumps(RAW)}
    ]
}
BRIDGE = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "111122223333",
    "time": "2021-11-12T00:00:00Z",
    "region": "ca-central-1",
    "resources": ["arn:aws:s3:::amzn-s3-demo-bucket"],
    "detail": {
        "version": "0",
        "bucket": {"name": "amzn-s3-demo-bucket"},
        "object": {
            "key": "a.png",
            "size": 5,
            "etag": "d41d8cd98f00b204e9800998ecf8427e",
            "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
            "sequencer": "0055AED6DCD90281E5",
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "123456789012",
        "source-ip-address": "1.2.3.4",
        "reason": "PutObject",
    },
}
ONE = (
    "amzn-s3-demo-bucket",
    "a.png",
    Change.CREATED,
    "d41d8cd98f00b204e9800998ecf8427e",
    "0055AED6DCD90281E5",
)


def short(event: ObjectEvent) -> tuple[str, str, Change, str, str]:
    return event.bucket, event.key, event.change, event.etag, event.sequencer


@pytest.mark.parametrize(
    "payload",
    [
        RAW,
        RAW["Records"][0],
        SNS,
        SQS,
        {"Messages": [{"Body": json.dumps(SNS)}]},  # S3 to SNS to SQS
        {"Records": [{"messageId": "m", "body": json.dumps(RAW), "eventSource": "aws:sqs"}]},
        {"Records": [{"messageId": "m", "body": json.dumps(SNS), "eventSource": "aws:sqs"}]},
        {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(RAW)}}]},
        BRIDGE,
        {"Messages": [{"Body": json.dumps(BRIDGE)}]},
        [BRIDGE],
        {"EventName": "s3:ObjectCreated:Put", "Key": "amzn-s3-demo-bucket/a.png", **RAW},
    ],
    ids=[
        "raw",
        "record",
        "sns",
        "sqs",
        "sqs-sns",
        "lambda",
        "lambda-sns",
        "lambda-of-sns",
        "eventbridge",
        "sqs-eventbridge",
        "list",
        "minio",
    ],
)
def test_every_envelope_gives_the_same_event(payload) -> None:
    assert [short(event) for event in parse_events(json.dumps(payload))] == [ONE]
    assert [short(event) for event in events_of(payload)] == [ONE]


def test_a_pipe_of_several_bodies() -> None:
    text = f"{json.dumps(RAW)}\n{json.dumps(BRIDGE, indent=1)}\n"
    assert [short(event) for event in parse_events(text.encode())] == [ONE, ONE]


def test_keys_are_decoded_where_s3_encodes_them_and_nowhere_else() -> None:
    encoded = parse_events(json.dumps({"Records": [record("red+flower%2Bb%C3%A4r%2520.png")]}))
    assert encoded[0].key == "red flower+bär%20.png"
    plain = json.loads(json.dumps(BRIDGE))
    plain["detail"]["object"]["key"] = "red+flower%20.png"
    assert events_of(plain)[0].key == "red+flower%20.png"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ObjectCreated:CompleteMultipartUpload", Change.CREATED),
        ("s3:ObjectCreated:Copy", Change.CREATED),
        ("ObjectRestore:Completed", Change.CREATED),
        ("ObjectRestore:Post", Change.OTHER),
        ("ObjectRemoved:Delete", Change.REMOVED),
        ("ObjectRemoved:DeleteMarkerCreated", Change.REMOVED),
        ("LifecycleExpiration:Delete", Change.REMOVED),
        ("ObjectTagging:Put", Change.OTHER),
        ("ObjectTagging:Delete", Change.OTHER),
        ("ObjectAcl:Put", Change.OTHER),
        ("SomethingNew:Here", Change.OTHER),
    ],
)
def test_what_happened(name, change) -> None:
    assert events_of({"Records": [record(name=name)]})[0].change is change


@pytest.mark.parametrize("word", ["Object Tags Added", "Object Tags Deleted", "Object ACL Updated"])
def test_what_happened_by_eventbridge(word) -> None:
    assert events_of(BRIDGE | {"detail-type": word})[0].change is Change.OTHER
    assert events_of(BRIDGE | {"detail-type": "Object Deleted"})[0].change is Change.REMOVED


def test_test_events_and_confirmations_hold_none() -> None:
    test = {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2014-10-13T15:57:02.089Z",
        "Bucket": "bucketname",
        "RequestId": "5582815E1AEA5ADF",
    }
    assert events_of(test) == []
    assert events_of({"Messages": [{"Body": json.dumps(test)}]}) == []
    asked = {"Type": "SubscriptionConfirmation", "SubscribeURL": "http://169.254.169.254/"}
    assert events_of(asked) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "{",
        "nope",
        "1",
        '"text"',
        "null",
        "{}",
        '{"Records": [1]}',
        '{"Records": [{}]}',
        '{"Records": [{"s3": 1}]}',
        '{"Body": "no json"}',
        '{"Body": 3}',
        '{"Type": "Notification"}',
        json.dumps({"Records": [record(key="")]}),
        json.dumps({"Records": [record(key="x" * 1025)]}),
        json.dumps({"Records": [record(key="a%00b")]}),
        json.dumps({"Records": [record(key=["a"])]}),
        json.dumps(BRIDGE | {"source": "aws.ec2"}),
        "[" * 100_000,
        json.dumps([[[[[[[[RAW]]]]]]]]),
        json.dumps({"Records": [record()] * 10_001}),
        b"\xff\xfe",
    ],
)
def test_what_is_no_notification_is_refused(text) -> None:
    with pytest.raises(EventError):
        parse_events(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "Records",
                    "s3",
                    "object",
                    "bucket",
                    "key",
                    "name",
                    "Body",
                    "Message",
                    "Type",
                    "detail",
                    "source",
                    "eventName",
                    "sequencer",
                    "Messages",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_anything_is_events_or_an_event_error(value) -> None:
    try:
        found = events_of(value)
    except EventError:
        return
    assert all(isinstance(event, ObjectEvent) for event in found)


@given(st.lists(st.text("0123456789ABCDEF", min_size=1, max_size=20), min_size=1, max_size=6))
def test_of_a_key_the_last_event_is_kept_in_whatever_order_they_come(sequencers) -> None:
    events = [ObjectEvent("b", "k", Change.CREATED, "n", sequencer=one) for one in sequencers]
    (kept,) = latest(events)
    assert not any(is_older(kept.sequencer, one) for one in sequencers)
    (other,) = latest(reversed(events))
    assert other.sequencer.rstrip("0") == kept.sequencer.rstrip("0")


def test_sequencers_are_padded_and_only_compared_where_there_are_some() -> None:
    assert is_older("0055AED6DCD90281E4", "0055AED6DCD90281E5")
    assert is_older("0055", "00550001")
    assert not is_older("0056", "00550001")
    assert not is_older("", "1")
    assert not is_older("1", "")
    foreign = events_of({"Records": [record(sequencer="not hex!")]})
    assert foreign[0].sequencer == ""


@pytest.mark.parametrize("nothing", ["", " \n", b"", "{}\n" * 0, json.dumps({"Messages": []})])
def test_an_empty_answer_of_a_queue_is_no_error(nothing: str | bytes) -> None:
    assert parse_lines(nothing) == ([], [])


def test_one_bad_line_is_told_and_the_others_are_followed() -> None:
    lines = [json.dumps({"Records": [record(key)]}) for key in ("a.png", "b.png")]
    found, wrong = parse_lines("\n".join([lines[0], '{"Records": [', "", "[5]", lines[1]]))
    assert [event.key for event in found] == ["a.png", "b.png"]
    assert [one.partition(":")[0] for one in wrong] == ["line 2", "line 4"]
    assert parse_lines(json.dumps(RAW, indent=1))[1] == []
    with pytest.raises(EventError):
        parse_lines(json.dumps(RAW, indent=1)[:-2])  # cut off: none of it is followed
    with pytest.raises(EventError):
        parse_lines("no event")
