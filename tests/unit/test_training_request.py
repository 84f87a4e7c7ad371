"""What goes over the wire: script mode as SageMaker's own SDK sends it, and what is refused before that."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import botocore.session
import pytest

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.training.arguments import Faults, read_spec
from hybrid_provider.training.sagemaker.faults import request_faults, too_costly
from hybrid_provider.training.sagemaker.images import image_uri
from hybrid_provider.training.sagemaker.request import Place, create_request

ROLE = "arn:aws:iam::123456789012:role/training"
HERE = Place("us-east-1")
SHAPE = (
    botocore.session.get_session()
    .get_service_model("sagemaker")
    .operation_model("CreateTrainingJob")
    .input_shape
)


def spec_of(folder=Path(), **arguments):
    faults = Faults()
    spec = read_spec(
        {"model_name": "digits", "role": ROLE, "output_path": "s3://models/digits"} | arguments,
        folder,
        faults,
    )
    faults.raise_if_any("training")
    return spec


def request_of(folder=Path(), **arguments):
    return create_request(spec_of(folder, **arguments), "digits-g1-abc", {}, HERE)


def faults_of(**arguments):
    return request_faults(SHAPE, request_of(**arguments))


def test_the_seed_of_this_project_is_one_call_and_sends_what_the_sdk_sends(tmp_path):
    """``TensorFlow(entry_point='train.py', framework_version='2.3.0', …).fit({'training': …})``."""
    (tmp_path / "train.py").write_text("print('training')\n")

    request = request_of(
        tmp_path,
        framework="tensorflow",
        entry_point="train.py",
        framework_version="2.3.0",
        instance_count=1,
        instance_type="ml.p2.xlarge",
        output_path="s3://models/digits",
        inputs={"training": "s3://models/data"},
    )

    source = request["HyperParameters"].pop("sagemaker_submit_directory")
    assert json.loads(source).startswith("s3://models/digits/hybrid-source/")
    assert json.loads(source).endswith("/sourcedir.tar.gz")
    assert request == {
        "TrainingJobName": "digits-g1-abc",
        "RoleArn": ROLE,
        "HyperParameters": {
            "sagemaker_program": '"train.py"',
            "sagemaker_container_log_level": "20",
            "sagemaker_job_name": '"digits-g1-abc"',
            "sagemaker_region": '"us-east-1"',
            "model_dir": '"s3://models/digits/digits-g1-abc/model"',
        },
        "AlgorithmSpecification": {
            "TrainingInputMode": "File",
            "TrainingImage": "763104351884.dkr.ecr.us-east-1.amazonaws.com/tensorflow-training:2.3.0-gpu-py37",
            "EnableSageMakerMetricsTimeSeries": True,
        },
        "InputDataConfig": [
            {
                "ChannelName": "training",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": "s3://models/data",
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
        ],
        "OutputDataConfig": {"S3OutputPath": "s3://models/digits"},
        "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.p2.xlarge", "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "Tags": [],
    }
    assert request_faults(SHAPE, request) == ()


def test_every_hyperparameter_of_script_mode_is_json(tmp_path):
    (tmp_path / "train.py").touch()
    values = {"epochs": 3, "name": "x", "flag": True, "none": None, "list": [1, 2], "map": {"a": 1.5}}

    sent = request_of(tmp_path, entry_point="train.py", framework="sklearn", framework_version="1.4-2",
                      instance_type="ml.m5.large", hyperparameters=values)["HyperParameters"]  # fmt: skip

    assert {key: sent[key] for key in values} == {
        "epochs": "3", "name": '"x"', "flag": "true", "none": "null", "list": "[1, 2]", "map": '{"a": 1.5}',
    }  # fmt: skip


def test_an_image_that_runs_as_it_is_gets_plain_text():
    sent = request_of(image_uri="i", hyperparameters={"depth": 3, "objective": "binary"})

    assert sent["HyperParameters"] == {"depth": "3", "objective": "binary"}


def test_spot_waits_at_least_as_long_as_it_may_run_and_checkpoints_are_kept():
    request = request_of(spot=True, max_runtime=timedelta(hours=2), checkpoint_uri="s3://models/c/")

    assert request["EnableManagedSpotTraining"] is True
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 7200}
    assert request["CheckpointConfig"] == {"S3Uri": "s3://models/c/", "LocalPath": "/opt/ml/checkpoints"}


def test_a_config_is_laid_over_the_arguments():
    request = request_of(
        instance_type="ml.m5.large",
        tags={"team": "vision", "cost": "1"},
        config={
            "TrainingJobName": "not-used",
            "ResourceConfig": {"InstanceType": "ml.c5.xlarge"},
            "EnableNetworkIsolation": True,
            "Tags": [{"Key": "cost", "Value": "2"}, {"Key": "own", "Value": "3"}],
        },
    )

    assert request["TrainingJobName"] == "digits-g1-abc"
    assert request["ResourceConfig"] == {
        "InstanceType": "ml.c5.xlarge",
        "InstanceCount": 1,
        "VolumeSizeInGB": 30,
    }
    assert request["EnableNetworkIsolation"] is True
    assert {tag["Key"]: tag["Value"] for tag in request["Tags"]} == {
        "cost": "1",
        "own": "3",
        "team": "vision",
    }


def test_a_config_with_instance_groups_gets_no_single_type():
    groups = [{"InstanceGroupName": "a", "InstanceType": "ml.m5.large", "InstanceCount": 2}]
    request = request_of(config={"ResourceConfig": {"InstanceGroups": groups}})

    assert request["ResourceConfig"] == {"InstanceGroups": groups, "VolumeSizeInGB": 30}
    assert [fault for fault in request_faults(SHAPE, request) if "instance" in fault] == []


REFUSED = {
    "role: ": {"role": "arn:aws:iam::1:user/me"},
    "output_path: missing": {"output_path": None},
    "output_path: 'ftp://x'": {"output_path": "ftp://x"},
    "instance_type: missing": {},
    "instance_type: 'large'": {"instance_type": "large"},
    "instance_count: 0 is less than 1": {"instance_count": 0},
    "volume_size_gb: 20000 is more": {"volume_size_gb": 20000},
    "image_uri: missing": {},
    "image_uri: 'python:3'": {"image_uri": "python:3"},
    "max_runtime: 2505600 s is more": {"max_runtime": timedelta(days=29)},
    "max_wait: 60 s is less than max_runtime": {"spot": True, "max_wait": timedelta(minutes=1)},
    "max_wait: needs spot=True": {"max_wait": timedelta(days=2)},
    "keep_alive: warm instances and spot": {"spot": True, "keep_alive": timedelta(minutes=1)},
    "keep_alive: 25200 is more than 21600": {"keep_alive": timedelta(hours=7)},
    "hyperparameters: 101 entries": {"hyperparameters": {f"h{n}": 1 for n in range(101)}},
    "hyperparameters[big]: 2501 characters": {"hyperparameters": {"big": "x" * 2501}},
    "environment[9lives]: '9lives' does not match": {"environment": {"9lives": "x"}},
    "inputs[tr ain].ChannelName: 'tr ain' does not match": {"inputs": {"tr ain": "s3://b/k"}},
    "metric_definitions: 'loss' is given 2 times": {"metric_definitions": [{"Name": "loss", "Regex": "."}] * 2},
    "tags: 'aws:x' begins with aws:": {"tags": {"aws:x": "1"}},
    "security_group_ids: 0 entries": {"subnets": ["subnet-1"]},
    "config Bogus: no such member": {"config": {"Bogus": 1}},
    "config EnableNetworkIsolation: 'yes' is no boolean": {"config": {"EnableNetworkIsolation": "yes"}},
}  # fmt: skip


@pytest.mark.parametrize(("fault", "arguments"), REFUSED.items(), ids=REFUSED)
def test_what_sagemaker_would_refuse_is_told_in_the_argument_s_own_name(fault, arguments):
    assert any(told.startswith(fault) for told in faults_of(**arguments)), faults_of(**arguments)


def test_an_instance_type_that_is_newer_than_botocore_is_taken():
    assert not [fault for fault in faults_of(instance_type="ml.z99.96xlarge") if "instance_type" in fault]


def test_the_bound_on_instance_time_counts_instances_and_warm_pools():
    request = request_of(instance_count=2, max_runtime=timedelta(hours=1), keep_alive=timedelta(minutes=30))

    assert too_costly(request, timedelta(hours=3)) == ()
    assert too_costly(request, None) == ()
    (fault,) = too_costly(request, timedelta(hours=2, minutes=59))
    assert "3:00:00, but 2:59:00 are allowed" in fault


@pytest.mark.parametrize(
    ("arguments", "uri"),
    [
        (("pytorch", "2.3.0", None, "eu-central-1", "ml.m5.large"),
         "763104351884.dkr.ecr.eu-central-1.amazonaws.com/pytorch-training:2.3.0-cpu-py311"),
        (("tensorflow", "2.12.0", None, "cn-north-1", "ml.g4dn.xlarge"),
         "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/tensorflow-training:2.12.0-gpu-py310"),
        (("sklearn", "1.4-2", "py3", "us-east-1", "ml.m5.large"),
         "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"),
        (("xgboost", "1.7-1", None, "eu-west-1", "ml.m5.large"),
         "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-xgboost:1.7-1"),
    ],
)  # fmt: skip
def test_a_framework_and_its_version_choose_aws_s_own_image(arguments, uri):
    assert image_uri(*arguments) == uri


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("caffe", "1", None, "us-east-1", "ml.m5.large"), "framework: 'caffe' is none of"),
        (("tensorflow", "", None, "us-east-1", "ml.m5.large"), "framework_version: ''"),
        (("tensorflow", "1.2", None, "us-east-1", "ml.m5.large"), "py_version: not known for tensorflow 1.2"),
        (("sklearn", "1.4-2", None, "moon-west-1", "ml.m5.large"), "region moon-west-1"),
        (("sklearn", "1.4-2", None, "us-east-1", "ml.p3.2xlarge"), "uses none"),
    ],
)  # fmt: skip
def test_an_image_that_is_not_known_is_an_error_that_names_the_way_out(arguments, said):
    with pytest.raises(ConfigurationError, match=said):
        image_uri(*arguments)


def test_what_jinja_turned_into_text_is_read_as_what_it_says():
    spec = spec_of(
        hyperparameters="{'epochs': 3, 'flag': True}",
        inputs='{"train": "s3://b/k"}',
        instance_count="2",
        spot="True",
        subnets="['a', 'b']",
        metric_definitions="[{'Name': 'n', 'Regex': 'r'}]",
        max_runtime="3600",
    )

    assert spec.hyperparameters == {"epochs": 3, "flag": True}
    assert spec.inputs == {"train": "s3://b/k"}
    assert (spec.instance_count, spec.spot, spec.subnets) == (2, True, ("a", "b"))
    assert spec.metric_definitions == ({"Name": "n", "Regex": "r"},)
    assert spec.max_runtime == timedelta(hours=1)


def test_text_that_says_nothing_plain_is_a_fault_with_the_remedy_and_is_never_run():
    with pytest.raises(ConfigurationError) as refused:
        spec_of(
            hyperparameters="__import__('os').system('true')", inputs="s3://b/k", spot="maybe", tags="{1: 2}"
        )

    said = str(refused.value)
    assert "- hyperparameters: " in said
    assert "render_template_as_native_obj" in said
    assert "- inputs: " in said
    assert "- spot: 'maybe'" in said
    assert "- tags: " in said


def test_the_fingerprint_changes_with_everything_but_the_tags():
    spec = spec_of()

    assert spec_of(tags={"a": "b"}).fingerprint == spec.fingerprint
    assert spec_of(hyperparameters={"a": 1}).fingerprint != spec.fingerprint
    assert spec_of(config={"EnableNetworkIsolation": True}).fingerprint != spec.fingerprint
    assert (
        spec_of(hyperparameters={"b": 1, "a": 2}).fingerprint
        == spec_of(hyperparameters={"a": 2, "b": 1}).fingerprint
    )
