"""Configurations of the networks: presets, latent sizes, one-line errors, no torch."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from latentdiff.errors import InputError
from latentdiff.nn import (
    CONFIGS,
    KINDS,
    TextConfig,
    VAEConfig,
    build,
    network_class,
    network_config,
    parse_latent,
)
from latentdiff.nn.networks import NETWORKS, CNNConfig, CourseUNetConfig, DiTConfig, MLPConfig, UNetConfig


def test_configurations_import_without_torch():
    code = (
        "import sys, latentdiff.nn, latentdiff.nn.networks; assert 'torch' not in sys.modules;"
        " latentdiff.nn.build"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("text", "latent"), [("32", (32,)), ("4x7x7", (4, 7, 7)), (" 8X4x2 ", (8, 4, 2))])
def test_latent_sizes_parse(text, latent):
    assert parse_latent(text) == latent


@pytest.mark.parametrize(
    "text", ["", "x", "0", "4x7", "4x7x7x7", "-3", "3.5", "4x0x7", "٣", "²", "999999", "4x 7 x7"]
)
def test_other_latent_sizes_are_refused(text):
    with pytest.raises(InputError, match="expected a size such as 32"):
        parse_latent(text)


@pytest.mark.parametrize(
    ("image", "latent", "factor", "grid"),
    [
        ((1, 28, 28), (32,), 4, (7, 7)),
        ((1, 28, 28), (4, 7, 7), 4, (7, 7)),
        ((3, 64, 64), (16,), 8, (8, 8)),
        ((3, 64, 48), (4, 64, 48), 1, (64, 48)),
        ((1, 8, 8), (3,), 1, (8, 8)),
        ((1, 32, 16), (2, 2, 1), 16, (2, 1)),
    ],
)
def test_factor_and_grid(image, latent, factor, grid):
    config = VAEConfig.of_preset("small", image=image, latent=latent)
    assert (config.factor, config.grid) == (factor, grid)


@pytest.mark.parametrize("sides", [(30, 28), (28, 30), (63, 65), (17, 9), (8, 1024), (100, 9)])
def test_sizes_that_the_error_names_are_valid(sides):
    with pytest.raises(InputError, match="next valid sizes are") as caught:
        VAEConfig.of_preset("small", image=(1, *sides), latent=(8,))
    named = str(caught.value).rpartition("are ")[2].split(" or ")
    for name in named:
        VAEConfig.of_preset("small", image=(1, *map(int, name.split("x"))), latent=(8,))


def test_sides_must_shrink_by_one_factor():
    with pytest.raises(InputError, match="2x1x1 does not fit images of 1x1024x512"):
        VAEConfig.of_preset("small", image=(1, 1024, 512), latent=(2, 1, 1))


def test_spatial_sizes_that_the_error_names_are_valid():
    with pytest.raises(InputError, match=r"4x7x8 does not fit images of 1x28x28") as caught:
        VAEConfig.of_preset("small", image=(1, 28, 28), latent=(4, 7, 8))
    named = str(caught.value).rpartition(": ")[2].split(", ")
    assert named == ["4x7x7", "4x14x14", "4x28x28"]
    for name in named:
        VAEConfig.of_preset("small", image=(1, 28, 28), latent=parse_latent(name))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: VAEConfig.of_preset("tiny", image=(1, 28, 28), latent=(32,)),
            "`preset`: expected one of small, base, large",
        ),
        (
            lambda: VAEConfig.of_preset("small", image=(2, 28, 28), latent=(32,)),
            r"`image`\.0: .*1 or 3, got 2",
        ),
        (
            lambda: VAEConfig.of_preset("small", image=(1, 4, 28), latent=(32,)),
            r"`image`\.1: .*greater than or equal to 8, got 4",
        ),
        (
            lambda: VAEConfig.of_preset("small", image=(1, 28, 28), latent=(4, 7)),
            "L or c x h x w, got 2 numbers",
        ),
        (
            lambda: VAEConfig.of_preset("small", image=(1, 28, 28), latent=(32,), width=33),
            "`width`: .*multiple of 8, got 33",
        ),
        (
            lambda: VAEConfig.of_preset("small", image=(1, 28, 28), latent=(32,), depth=9),
            "`depth`: .*less than or equal to 8, got 9",
        ),
        (
            lambda: VAEConfig.of_preset("small", image=(1, 28, 28), latent=(32,), hidden=True),
            "`hidden`: .*valid integer, got True",
        ),
        (lambda: MLPConfig.of_preset("small", shape=(4, 7)), "`shape`: expected L or C x H x W, .* got 4x7"),
        (
            lambda: MLPConfig.of_preset("small", shape=(3, 256, 256)),
            "`shape`: .*at most 65536 numbers, got 3x256x256",
        ),
        (lambda: MLPConfig.of_preset("small", shape=(32,), out_factor=3), "`out_factor`: .*got 3"),
        (lambda: MLPConfig.of_preset("small", shape=(32,), num_classes=-1), "`num_classes`: .*got -1"),
        (lambda: UNetConfig.of_preset("small", shape=(32,)), "shape"),
        (
            lambda: UNetConfig.of_preset("small", shape=(1, 3, 8)),
            r"`shape`\.1: .*greater than or equal to 4, got 3",
        ),
        (
            lambda: UNetConfig.of_preset("small", shape=(4, 4, 4), mult=(1, 1, 1, 1)),
            "too small for 4 resolutions, expected at most 3",
        ),
        (
            lambda: UNetConfig.of_preset("small", shape=(1, 28, 28), attention=(3,)),
            "resolutions 0 to 2, got 3",
        ),
        (
            lambda: UNetConfig.of_preset("small", shape=(1, 28, 28), heads=5),
            "divisor of the .* channels .*got 5",
        ),
        (
            lambda: UNetConfig.of_preset("small", shape=(1, 28, 28), groups=7),
            "`width`: expected a multiple of 7",
        ),
        (
            lambda: UNetConfig.of_preset("small", shape=(1, 28, 28), patch=3),
            "`patch`: expected a divisor of 28x28 pixels, got 3",
        ),
        (
            lambda: UNetConfig.of_preset("small", shape=(1, 28, 28), patch=14),
            "`mult`: 1x2x2 is too small for 3 resolutions, expected at most 2",
        ),
        (
            lambda: network_config("cnn", "small", (1, 28, 28), levels=9, patch=2),
            "`patch`: expected none for a cnn, only for unet, convnext, dit, got 2",
        ),
        (
            lambda: UNetConfig.of_preset("small", shape=(1, 28, 28), mult=()),
            "`mult`: expected at least 1 of them, got 0",
        ),
        (lambda: CNNConfig.of_preset("small", shape=(32,)), "shape"),
        (
            lambda: CNNConfig.of_preset("small", shape=(1, 28, 28), kernels=(3, 3)),
            "expected 5 for 4 inner widths, got 2",
        ),
        (
            lambda: CNNConfig.of_preset("small", shape=(1, 28, 28), kernels=(7, 7, 4, 3, 3)),
            "`kernels`: expected odd sides, got 4",
        ),
        (
            lambda: CNNConfig.of_preset("small", shape=(1, 28, 28), width=1024),
            r"`channels`\.1: .*less than or equal to 1024, got 2048",
        ),
        (
            lambda: CourseUNetConfig.of_preset("small", shape=(1, 30, 28), levels=9),
            "divisible by 4, at most 256, got 30x28",
        ),
        (
            lambda: CourseUNetConfig.of_preset("small", shape=(1, 512, 512), levels=9),
            "divisible by 4, at most 256, got 512x512",
        ),
        (
            lambda: CourseUNetConfig.of_preset("small", shape=(1, 28, 28), levels=0),
            "`levels`: .*greater than or equal to 1, got 0",
        ),
        (lambda: network_config("cnn", "small", (32,), levels=9), "expected mlp for a vector of 32, got cnn"),
        (
            lambda: network_config("unet", "small", (4, 2, 2), levels=9),
            "a unet needs sides of 4 or more, got 4x2x2; mlp takes any",
        ),
        (
            lambda: network_config("cnn", "small", (1, 8, 8), levels=9, depth=2),
            "`depth`: expected none for a cnn.* got 2",
        ),
        (lambda: MLPConfig.of_preset("small", shape=[32.5]), r"`shape`\.0: .*integer"),
        (lambda: MLPConfig.of_preset("small", shape=[32], wdith=8), "unknown key 'wdith'"),
        (
            lambda: UNetConfig.of_preset("small", shape=[1, 8, 8], kind="mlp"),
            "`kind`: expected 'unet', got 'mlp'",
        ),
        (
            lambda: network_config("resnet", "small", (1, 8, 8), levels=9),
            "`network`: expected one of unet, mlp, .*, dit, got 'resnet'",
        ),
        (
            lambda: network_config("dit", "small", (32,), levels=9),
            "expected mlp for a vector of 32, got dit",
        ),
        (
            lambda: network_config("dit", "small", (4, 8, 8), levels=9, patch=3),
            "`patch`: expected a divisor of 8x8 pixels, got 3",
        ),
        (lambda: DiTConfig.of_preset("small", shape=(1, 8, 8), heads=3), "`heads`: .* width 128, got 3"),
        (
            lambda: DiTConfig.of_preset("small", shape=(3, 130, 130), patch=1),
            "at most 4096 patches, got 1, which leaves 16900",
        ),
    ],
)
def test_bad_configurations_give_one_line(make, words):
    with pytest.raises(InputError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_grids_too_small_for_convolutions_get_an_mlp() -> None:
    assert network_config(None, "small", (4, 2, 2), levels=9).kind == "mlp"
    assert network_config(None, "small", (4, 4, 4), levels=9).kind == "unet"


@pytest.mark.parametrize(
    ("kind", "shape", "name"),
    [
        (None, (32,), "MLPDenoiser"),
        (None, (4, 7, 7), "UNetDenoiser"),
        ("mlp", (32,), "MLPDenoiser"),
        ("unet", (1, 28, 28), "UNetDenoiser"),
        ("cnn", (1, 28, 28), "CNNDenoiser"),
        ("course-unet", (1, 28, 28), "CourseUNetDenoiser"),
        ("convnext", (1, 28, 28), "ConvNeXtDenoiser"),
        ("dit", (1, 28, 28), "DiTDenoiser"),
    ],
)
def test_a_kind_of_network_and_what_is_denoised_give_its_configuration(kind, shape, name):
    config = network_config(kind, "small", shape, levels=300, num_classes=10, out_factor=2, width=32)
    assert config.class_name() == name
    assert (config.shape, config.num_classes, config.out_factor) == (shape, 10, 2)
    assert getattr(config, "width", None) == (32 if name != "CNNDenoiser" else None)
    assert getattr(config, "channels", (32, 64, 64, 32)) == (32, 64, 64, 32)
    assert getattr(config, "levels", 300) == 300


@pytest.mark.parametrize("shape", [(4, 7, 7), (4, 8, 8), (3, 32, 32)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_preset_is_valid_and_numbers_override_it(kind, shape):
    shape = (3, 28, 28) if kind == "course-unet" and shape == (4, 7, 7) else shape
    presets = KINDS[kind].presets
    for preset in presets:
        assert network_config(kind, preset, shape, levels=9, num_classes=7).num_classes == 7
    if "depth" in presets["small"]:
        assert network_config(kind, "small", shape, levels=9, depth=5).depth == 5


def test_presets_that_depend_on_the_grid():
    for preset in VAEConfig.presets:
        assert VAEConfig.of_preset(preset, image=(1, 28, 28), latent=(32,), hidden=48).hidden == 48
    for preset in UNetConfig.presets:
        assert UNetConfig.of_preset(preset, shape=(3, 32, 32)).width == UNetConfig.presets[preset]["width"]
        latent = UNetConfig.of_preset(preset, shape=(4, 7, 7), attention=())
        assert latent.attention == () and latent.width == UNetConfig.small_grid_presets[preset]["width"]
    grids = {(4, 8, 8): 2, (4, 7, 7): 1, (3, 32, 32): 4, (1, 28, 28): 4, (3, 30, 32): 2}
    assert {shape: DiTConfig.of_preset("small", shape=shape).patch for shape in grids} == grids


def test_every_row_of_the_table_is_whole():
    for config in NETWORKS:
        assert config.network and config.difference and {"small", "base", "large"} <= config.presets.keys()
    for kind, config in KINDS.items():
        assert config.about and config.peak_lr.keys() == config.presets.keys()
        assert network_config(kind, "small", (4, 8, 8), levels=9).activations > 0
        assert isinstance(build(network_config(kind, "small", (4, 8, 8), levels=9)), network_class(config))


@pytest.mark.parametrize(
    "config",
    [
        VAEConfig.of_preset("small", image=(1, 28, 28), latent=(32,)),
        VAEConfig.of_preset("base", image=(3, 32, 64), latent=(4, 8, 16)),
        MLPConfig.of_preset("small", shape=(32,), num_classes=10, out_factor=2),
        UNetConfig.of_preset("large", shape=(3, 64, 64), num_classes=3),
        CNNConfig.of_preset("base", shape=(3, 32, 32), num_classes=3, out_factor=2),
        CourseUNetConfig.of_preset("small", shape=(1, 28, 28), num_classes=10, levels=300),
    ],
)
def test_configurations_return_from_json(config):
    again = CONFIGS[config.class_name()].model_validate_json(config.model_dump_json())
    assert again == config
    assert type(again) is type(config)


def test_lists_stand_for_tuples_but_numbers_stay_strict():
    assert VAEConfig.model_validate({"image": [1, 28, 28], "latent": [32]}).image == (1, 28, 28)
    with pytest.raises(ValidationError):
        VAEConfig.model_validate({"image": ["1", 28, 28], "latent": [32]})
    with pytest.raises(ValidationError, match="frozen"):
        UNetConfig(shape=(1, 8, 8)).width = 8


def test_every_field_says_what_it_is_and_has_a_range():
    for cls in (*CONFIGS.values(), TextConfig):
        schema = cls.model_json_schema()
        for name, field in schema["properties"].items():
            if name == "kind":
                continue
            assert "description" in field, (cls, name)
            if field.get("type") == "integer":
                assert {"minimum", "maximum"} <= field.keys(), (cls, name)
