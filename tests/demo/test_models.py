"""One network as a checkpoint, as a SavedModel and behind a server does the same on the page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.demo import open_models
from attennorm_tf.demo.address import parse_address
from attennorm_tf.demo.networks import DemoGenerator, DemoInpainter
from attennorm_tf.export import Limits, Subject
from attennorm_tf.export.client import ServingClient
from attennorm_tf.export.model_card import card_facts
from attennorm_tf.export.saved_model import signature_shapes, write_saved_model
from attennorm_tf.export.serving_errors import ServingError
from attennorm_tf.inference import draw_latents, load_generator, load_inpainter, sample
from tests.export.serving_server import ServingServer, config_of, entry
from tests.export.tiny_models import write_filler
from tests.inference.gan_runs import write_run
from tests.inference.inpainters import tiny_config, write_checkpoint


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the same two networks are, in three ways each."""
    root = tmp_path_factory.mktemp("models")
    write_checkpoint(root / "inpainting", tiny_config())
    write_run(root / "generation", ["cat", "dog", "owl"])
    inpainter, generator = load_inpainter(root / "inpainting"), load_generator(root / "generation")
    exported = root / "exported" / "inpainting" / "1"
    subject = Subject(inpainter.model, "inpainting", "tiny", 7, config=json.loads(inpainter.config.to_json()))
    write_saved_model(inpainter.model, exported)
    (exported / "export.json").write_text(json.dumps(card_facts(subject, Limits(), {}, {})))
    write_saved_model(generator.generator, root / "exported" / "generation" / "1")
    config = config_of(*(entry(name, root / "exported" / name) for name in ("inpainting", "generation")))
    with ServingServer(config) as server:
        yield {
            "inpainting": str(root / "inpainting"),
            "generation": str(root / "generation"),
            "exported inpainting": str(root / "exported" / "inpainting"),
            "exported generation": str(root / "exported" / "generation" / "1"),
            "grpc": f"grpc://{server.grpc_address}",
            "rest": f"http://{server.rest_address}",
        }


def _one(place: str) -> DemoInpainter | DemoGenerator:
    (model,) = open_models(place)
    return model


def test_inpainting_is_the_same_everywhere(places: dict[str, str]) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (1, 36, 44, 3)).astype(np.float32) / np.float32(127.5) - 1
    masks = np.zeros((1, 36, 44, 1), np.float32)
    masks[:, 10:25, 12:30] = 1
    loaded = load_inpainter(places["inpainting"])
    expected = loaded.complete(images, masks)
    layout = None
    for name in ("inpainting", "exported inpainting", "rest"):
        place = places[name] + ("/v1/models/inpainting" if "://" in places[name] else "")
        model = _one(place)
        assert isinstance(model, DemoInpainter)
        assert (model.config is None) == ("://" in place)
        completed = model.complete(images, masks)
        known = masks[..., 0] == 0
        np.testing.assert_array_equal(completed[known], images[known])
        # A server's answers are files: bytes.
        np.testing.assert_allclose(completed, expected, atol=1 / 127 if "://" in place else 1e-5)
        found = model.layouts(images, masks)
        assert found.shape == (1, 9, 11, 4)
        np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
        layout = found if layout is None else layout
        # The edge is continued in another way where sizes are no multiples of 8; the hole is far from it.
        np.testing.assert_allclose(found[:, :6, :7], layout[:, :6, :7], atol=5e-2 if name != "inpainting" else 0)
    assert _one(places["inpainting"]).title == "tiny_attentive, step 7"
    assert _one(places["exported inpainting"]).title == "tiny, step 7"


def test_generation_is_the_same_everywhere(places: dict[str, str]) -> None:
    loaded = load_generator(places["generation"])
    names = {"generation": ["cat", "dog", "owl"]}
    latents = draw_latents(5, loaded.generator.latent_dim, 3, 0.7)
    expected = sample(loaded.generator, latents, np.array([2, 0, 2, 0, 2]), with_layouts=True)
    for name in ("generation", "exported generation", "grpc"):
        model = _one(places[name] + ("/v1/models/generation" if "://" in places[name] else ""))
        assert isinstance(model, DemoGenerator)
        assert list(model.class_names) == names.get(name, ["0", "1", "2"])
        found = model.sample([2, 0], 5, 3, 0.7)
        np.testing.assert_allclose(found.images, expected.images, atol=1e-5)
        np.testing.assert_allclose(found.layouts, expected.layouts, atol=1e-5)
        ends = model.blend(1, 2, [0.0, 0.5, 1.0], 4, None)
        noise = np.repeat(draw_latents(1, model.latent_dim, 4), 3, axis=0)
        weights = np.array([[0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]], np.float32)
        np.testing.assert_allclose(ends.images, sample(loaded.generator, noise, weights).images, atol=1e-5)


def test_a_server_without_a_name_gives_all_it_has(places: dict[str, str], tmp_path: Path) -> None:
    kinds = [type(model).__name__ for model in open_models(places["grpc"])]
    assert kinds == ["DemoInpainter", "DemoGenerator"]
    other = write_filler(tmp_path / "other" / "1", 40).parent
    with ServingServer(config_of(entry("other", other))) as server:
        with pytest.raises(ValueError, match="the server has no model called inpainting nor generation; add /v1/"):
            open_models(f"http://{server.rest_address}")
        (model,) = open_models(f"http://{server.rest_address}/v1/models/other/versions/1")
        assert model.title.endswith("model 'other' version 1")
        assert model.layouts is None  # this one has none
        with pytest.raises(ServingError, match="NOT_FOUND"):
            open_models(f"grpc://{server.grpc_address}/v1/models/other/versions/3")
    write_filler(tmp_path / "other" / "10", 50)
    (newest,) = open_models(str(tmp_path / "other"))
    completed = newest.complete(np.zeros((1, 8, 8, 3), np.float32), np.ones((1, 8, 8, 1), np.float32))
    assert np.allclose(completed, 50 / 127.5 - 1)


def test_signatures_over_both_protocols_are_those_of_the_file(places: dict[str, str]) -> None:
    expected = signature_shapes(places["exported generation"])
    assert expected["blend"]["inputs"]["class_weights"] == {"shape": [None, 3], "dtype": "float32"}
    for protocol in ("grpc", "rest"):
        server = places[protocol].partition("://")[2]
        with ServingClient(server, "generation", protocol) as client:
            assert client.signatures() == expected
        with (
            ServingClient(server, "nothing", protocol, retries=0) as client,
            pytest.raises(ServingError, match="NOT_FOUND"),
        ):
            client.signatures()


def test_what_is_no_model(places: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="does not exist"):
        open_models(str(tmp_path / "nowhere"))
    module = tf.Module()
    function = tf.function(lambda x: x, input_signature=[tf.TensorSpec([None])]).get_concrete_function()
    tf.saved_model.save(module, str(tmp_path / "strange"), signatures={"double": function})
    with pytest.raises(ValueError, match="strange' has the signatures double; expected a SavedModel of attennorm-exp"):
        open_models(str(tmp_path / "strange"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model '.*broken' (cannot be loaded|has the signatures)"):
        open_models(str(tmp_path / "broken"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grpc://a:8500", ("a:8500", "grpc", False, None, None, None)),
        ("grpcs://a:8500/v1/models/m", ("a:8500", "grpc", True, "m", None, None)),
        ("http://a:8501/", ("http://a:8501", "rest", False, None, None, None)),
        ("https://a/x/y/v1/models/m%20n/versions/12/", ("https://a/x/y", "rest", True, "m n", 12, None)),
        ("http://[::1]:8501/v1/models/m/labels/stable", ("http://[::1]:8501", "rest", False, "m", None, "stable")),
    ],
)
def test_addresses(text: str, expected: tuple) -> None:
    assert tuple(parse_address(text)) == expected


@pytest.mark.parametrize("text", ["ftp://a:1", "grpc://", "grpc://a:1/inpainting", "http://a/v1/models/m?x=1", "://a"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("an address must look like grpc://127.0.0.1:8500 or http://")):
        parse_address(text)
