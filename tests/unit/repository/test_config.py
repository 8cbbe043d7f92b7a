"""config.pbtxt: what is read of it, and that a wrong one is named with file, field and what was expected."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as pb

from serving.errors import RepositoryInvalid
from serving.repository.config import (
    DEFAULT_QUEUE_ROWS,
    BatchRules,
    GraphConfig,
    ModelConfig,
    TensorSpec,
    config_as_json,
    fill_config,
    parse_config,
    read_config,
    write_config,
)


def message(**fields) -> ModelConfig:
    return ModelConfig(**{"name": "m", "platform": "onnxruntime_onnx", **fields})


def test_everything_that_is_used_is_read():
    config = parse_config(
        message(
            max_batch_size=16,
            input=[pb.ModelInput(name="x", data_type=pb.TYPE_UINT8, dims=[-1, 3])],
            output=[pb.ModelOutput(name="y", data_type=pb.TYPE_STRING, dims=[1])],
            instance_group=[pb.ModelInstanceGroup(count=2), pb.ModelInstanceGroup()],
            dynamic_batching=pb.ModelDynamicBatching(
                preferred_batch_size=[8, 16, 1, 8],
                max_queue_delay_microseconds=1500,
                priority_levels=3,
                default_priority_level=2,
            ),
            parameters={
                "max_queue_rows": pb.ModelParameter(string_value="77"),
                "intra_op_thread_count": pb.ModelParameter(string_value="4"),
            },
        ),
        "m",
    )
    assert config == GraphConfig(
        name="m",
        platform="onnxruntime_onnx",
        inputs=(TensorSpec("x", "UINT8", (-1, 3)),),
        outputs=(TensorSpec("y", "BYTES", (1,)),),
        instances=3,
        threads_per_run=4,
        rules=BatchRules(16, (1, 8, 16), 0.0015, 77, 3, 2),
    )
    assert config.model_file == "model.onnx"


def test_what_is_left_out_has_tritons_defaults():
    config = parse_config(ModelConfig(backend="onnxruntime"), "m")
    assert (config.instances, config.threads_per_run, config.inputs) == (1, None, ())
    assert config.rules == BatchRules(max_batch_size=0, max_queue_rows=DEFAULT_QUEUE_ROWS)
    levels = pb.ModelDynamicBatching(priority_levels=2)
    assert parse_config(message(dynamic_batching=levels), "m").rules.default_priority == 1


WRONG = {
    "another name": (message(name="other"), "name", "expected 'm'"),
    "an unknown platform": (message(platform="caffe"), "platform", "expected one of onnxruntime"),
    "no platform": (message(platform=""), "platform", "found ''"),
    "a negative batch": (message(max_batch_size=-1), "max_batch_size", "expected 0 or more"),
    "a tensor without name": (
        message(input=[pb.ModelInput(data_type=pb.TYPE_FP32)]),
        "input[0].name",
        "the tensor's name",
    ),
    "a tensor without type": (message(output=[pb.ModelOutput(name="y")]), "output[0].data_type", "TYPE_FP32"),
    "a size of 0": (
        message(input=[pb.ModelInput(name="x", data_type=pb.TYPE_FP32, dims=[3, 0])]),
        "input[0].dims",
        "above 0",
    ),
    "a size of -2": (
        message(input=[pb.ModelInput(name="x", data_type=pb.TYPE_FP32, dims=[-2])]),
        "input[0].dims",
        "above 0",
    ),
    "a type that the protocol cannot carry": (
        message(input=[pb.ModelInput(name="x", data_type=pb.TYPE_BF16)]),
        "input[0].data_type",
        "expected one of TYPE_BOOL",
    ),
    "two tensors of one name": (
        message(input=[pb.ModelInput(name="x", data_type=pb.TYPE_FP32, dims=[1])] * 2),
        "input[1].name",
        "found 'x' again",
    ),
    "fewer instances than none": (
        message(instance_group=[pb.ModelInstanceGroup(count=-1)]),
        "instance_group[0].count",
        "expected 0 or more",
    ),
    "a number of too many digits": (
        message(parameters={"max_queue_rows": pb.ModelParameter(string_value="9" * 5000)}),
        'parameters["max_queue_rows"]',
        "9 digits at most",
    ),
    "a preferred size above the largest": (
        message(max_batch_size=4, dynamic_batching=pb.ModelDynamicBatching(preferred_batch_size=[2, 8])),
        "dynamic_batching.preferred_batch_size[1]",
        "expected 1 to max_batch_size 4",
    ),
    "a preferred size of 0": (
        message(max_batch_size=4, dynamic_batching=pb.ModelDynamicBatching(preferred_batch_size=[0])),
        "dynamic_batching.preferred_batch_size[0]",
        "found 0",
    ),
    "a default priority above the levels": (
        message(dynamic_batching=pb.ModelDynamicBatching(priority_levels=1, default_priority_level=2)),
        "dynamic_batching.default_priority_level",
        "at most priority_levels 1",
    ),
    "a queue of no rows": (
        message(parameters={"max_queue_rows": pb.ModelParameter(string_value="0")}),
        'parameters["max_queue_rows"]',
        "at least 1",
    ),
    "threads that are no number": (
        message(parameters={"intra_op_thread_count": pb.ModelParameter(string_value="two")}),
        'parameters["intra_op_thread_count"]',
        "found 'two'",
    ),
}


@pytest.mark.parametrize(("config", "field", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_field_is_named(config, field, expected):
    with pytest.raises(RepositoryInvalid) as caught:
        parse_config(config, "m", "m/config.pbtxt")
    assert (caught.value.file, caught.value.field) == ("m/config.pbtxt", field)
    assert expected in caught.value.expected
    assert str(caught.value).startswith(f"m/config.pbtxt: {field}: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "expected this file"),
        (b"name: {", "protobuf text"),
        (b"\xff\xfe", "protobuf text"),
        (b"nome: 'm'", "nome"),
    ],
    ids=["missing", "not protobuf text", "not UTF-8", "an unknown field"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, expected):
    path = tmp_path / "config.pbtxt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RepositoryInvalid, match=expected) as caught:
        read_config(path, "m")
    assert caught.value.file == "m/config.pbtxt"
    assert str(tmp_path) not in str(caught.value)


@given(
    st.builds(
        message,
        max_batch_size=st.integers(0, 64),
        input=st.lists(
            st.builds(
                pb.ModelInput,
                name=st.text(min_size=1, max_size=8),
                data_type=st.sampled_from([pb.TYPE_FP32, pb.TYPE_UINT8, pb.TYPE_STRING]),
                dims=st.lists(st.one_of(st.just(-1), st.integers(1, 512)), max_size=4),
            ),
            max_size=3,
            unique_by=lambda tensor: tensor.name,
        ),
        instance_group=st.lists(st.builds(pb.ModelInstanceGroup, count=st.integers(0, 8)), max_size=3),
        dynamic_batching=st.builds(
            pb.ModelDynamicBatching,
            max_queue_delay_microseconds=st.integers(0, 10**6),
            priority_levels=st.integers(3, 9),
            default_priority_level=st.integers(0, 3),
        ),
        parameters=st.dictionaries(
            st.sampled_from(["max_queue_rows", "intra_op_thread_count"]),
            st.builds(pb.ModelParameter, string_value=st.integers(1, 999_999_999).map(str)),
        ),
    )
)
def test_what_is_written_is_read_again(config):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.pbtxt"
        write_config(path, config)
        assert read_config(path, "m") == parse_config(config, "m")


def test_what_a_file_leaves_out_is_filled_in_and_the_file_stays_as_it_is():
    given = pb.ModelConfig(platform="onnxruntime_onnx", max_batch_size=4)
    config = parse_config(given, "m")
    filled = fill_config(config, [TensorSpec("x", "BYTES", (-1, 3))], [TensorSpec("y", "FP16", ())])
    assert (filled.name, filled.max_batch_size, filled.default_model_filename) == ("m", 4, "model.onnx")
    assert filled.input[0] == pb.ModelInput(name="x", data_type=pb.TYPE_STRING, dims=[-1, 3])
    assert filled.output[0] == pb.ModelOutput(name="y", data_type=pb.TYPE_FP16)
    assert filled.instance_group[0].count == 1
    assert not given.name
    assert not given.input


def test_what_a_file_states_is_kept():
    stated = message(
        input=[pb.ModelInput(name="own", data_type=pb.TYPE_FP32, dims=[2])],
        instance_group=[pb.ModelInstanceGroup(count=3)],
        default_model_filename="other.onnx",
    )
    filled = fill_config(parse_config(stated, "m"), [TensorSpec("x", "FP16", ())], [])
    assert [one.name for one in filled.input] == ["own"]
    assert [group.count for group in filled.instance_group] == [3]
    assert filled.default_model_filename == "other.onnx"


def test_as_json_empty_fields_are_there_and_large_numbers_are_numbers():
    """protobuf's own JSON has 64-bit numbers as text; Triton's clients do not expect that."""
    given = message(
        input=[pb.ModelInput(name="x", data_type=pb.TYPE_UINT8, dims=[-1, 2**40])],
        dynamic_batching=pb.ModelDynamicBatching(
            max_queue_delay_microseconds=2**40,
            priority_queue_policy={2: pb.ModelQueuePolicy(default_timeout_microseconds=7)},
        ),
        model_warmup=[pb.ModelWarmup(name="w", inputs={"x": pb.ModelWarmup.Input(dims=[5])})],
        parameters={"max_queue_rows": pb.ModelParameter(string_value="77")},
    )
    shown = config_as_json(given)
    assert shown["input"][0]["dims"] == [-1, 2**40]
    assert shown["input"][0]["data_type"] == "TYPE_UINT8"
    assert shown["input"][0]["optional"] is False
    batching = shown["dynamic_batching"]
    assert batching["max_queue_delay_microseconds"] == 2**40
    assert batching["priority_queue_policy"]["2"]["default_timeout_microseconds"] == 7
    assert shown["model_warmup"][0]["inputs"]["x"]["dims"] == [5]
    assert shown["parameters"] == {"max_queue_rows": {"string_value": "77"}}
    assert (shown["max_batch_size"], shown["output"], shown["metric_tags"]) == (0, [], {})
    assert "sequence_batching" not in shown
