"""Recipes: what they say, that every field can be overridden, and that mistakes are sentences."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from tinyshuffle import data
from tinyshuffle.cli import cli
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import Config, recipe


def command(*arguments, code=0):
    result = CliRunner().invoke(cli, ["train", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_is_a_configuration(name):
    config = Config.make(name, threads=2)
    assert config.data == "cifar10" and config.schedule in ("one-cycle", "linear", "step")
    assert Config.from_dict({**recipe.load(name), "threads": 2}) == config


def test_the_paper_recipe_is_the_papers():
    config = Config.make("paper")
    assert (config.optimizer, config.schedule, config.lr) == ("sgd", "linear", 0.5)
    assert (config.weight_decay, config.batch_size) == (4e-5, 1024)


@pytest.mark.parametrize("name", recipe.names())
def test_show_prints_a_recipe_that_gives_the_same(name, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "nothing is left of the variant")  # of one of them
        shown = command("--recipe", name, "--lr", 0.07, "--variant", "se=true", "--sizes", "16,32",
                        "--show")  # fmt: skip
        expected = Config.make(name, lr=0.07, variant={"se": True}, sizes=(16, 32))
    file = tmp_path / "mine.toml"
    file.write_text(shown)
    assert Config.make(str(file)) == expected
    assert command("--recipe", file, "--show") == shown


def test_a_time_budget_and_epochs_take_each_others_place(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 3")
    shown = command("--recipe", file, "--time-budget", "5m", "--show")
    assert 'time_budget = "5m"' in shown and "epochs" not in shown
    file.write_text(shown)  # which is a recipe again
    assert command("--recipe", file, "--show") == shown
    shown = command("--recipe", file, "--epochs", 4, "--show")
    assert "epochs = 4" in shown and "time_budget" not in shown


def test_what_is_left_of_a_variant_is_said(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('model = "shufflenet_v2_x0_5"\nvariant = { se = true, residual = true }')
    for option, kept in (("--model", "shufflenet_v2_x1_0"), ("--variant", "residual=no")):
        with pytest.warns(UserWarning, match=r"nothing is left of .*\((se, residual|se)\)"):
            shown = command("--recipe", file, option, kept, "--show")
        assert "se = " not in shown
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        command("--recipe", file, "--model", "shufflenet_v2_x0_5", "--show")
        command("--recipe", file, "--variant", "se=no", "--variant", "residual=no", "--show")


@pytest.mark.parametrize(
    "options, words",
    [
        (("--model", "shufflenet_v3"), "unknown model 'shufflenet_v3'"),
        (("--data", "cifar11"), "there is no data set 'cifar11'"),
        (("--variant", "stage_channels=0,0,0"), "do not suit stages 2, 3 and 4"),
        (("--variant", "stage_channels=60000,60000,60000"), "give smaller widths"),
        (("--sizes", "16,40"), "have 32 pixels a side: leave out 40"),
        (("--cutout", 32), "leave something of them"),
        (("--model", "vgg11", "--sizes", "8"), "too small for VGG; the smallest"),
        (("--optimizer", "adam", "--momentum", 0.5), "momentum=0.5 has no effect with adam"),
        (("--data-dir", "x"), "has no effect with shapes"),
    ],
)
def test_show_refuses_what_the_run_would_refuse(tmp_path, monkeypatch, options, words):
    def files(*arguments, **options):
        raise AssertionError("nothing is loaded for that")

    monkeypatch.setattr(data, "load", files)
    monkeypatch.chdir(tmp_path)
    for show in (["--show"], []):
        assert words in command(*options, *show, code=1)
    assert not list(tmp_path.iterdir())


def test_show_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command("--show")
    assert not list(tmp_path.iterdir())


def test_every_field_has_an_option():
    options = {parameter.name for parameter in cli.commands["train"].params}
    assert {f.name for f in dataclasses.fields(Config)} <= options


def test_the_command_line_overrides_the_recipe():
    assert Config.make("lecture").epochs != 3
    assert Config.make("lecture", epochs=3).epochs == 3
    assert Config.make("coffee", data="shapes").batch_size == Config.make("coffee").batch_size
    lecture = Config.make("lecture")
    assert Config.make("lecture", model=lecture.model).variant == lecture.variant != {}
    with pytest.warns(UserWarning, match="nothing is left of the variant of the recipe lecture"):
        assert Config.make("lecture", model="shufflenet_v1_x0_25_g3").variant == {}
    with pytest.warns(UserWarning, match="stage_channels, conv5_channels, residual"):
        assert Config.make("lecture", variant={"se": True}).variant == {"se": True}


def test_learning_rate_scales_with_the_batch():
    lr, size = Config.make("coffee").lr, Config.make("coffee").batch_size
    assert Config.make("coffee", batch_size=2 * size).lr == 2 * lr
    assert Config.make("coffee", batch_size=2 * size, lr=0.3).lr == 0.3
    adam = Config.make("coffee", optimizer="adam")
    assert Config.make("coffee", optimizer="adam", batch_size=4 * size).lr == 2 * adam.lr
    assert adam.lr < lr


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("epocks = 3", r"'epocks' is not a field .*did you mean epochs"),
        ('epochs = "three"', r"epochs='three' was given: it must be a whole number"),
        ("epochs = true", r"epochs=True was given"),
        ('data = ["cifar10"]', r"data=\['cifar10'\]"),
        ("lr = nan", r"lr=nan"),
        ("lr = inf", r"lr=inf was given: it must be a finite number"),
        ('epochs = 3\ntime_budget = "5m"', r"epochs=3 and time_budget=5m were given together"),
        ("epochs = 3\nwarmup = 3", r"warmup=3.0 .*less than the 3 epochs"),
        ('schedule = "cosin"', r"did you mean cosine"),
        ("sizes = [16, 0]", r"sizes=\(16, 0\)"),
        ('sizes = ["16"]', r"sizes="),
        ("sizes = 16", r"sizes=16 .*a list of whole numbers"),
        ("variant = 3", r"variant=3 .*a table"),
        ('time_budget = "soon"', r"'soon' is not a time"),
        ('time_budget = "0m"', r"time_budget='0m'"),
        ("ema = 1.0", r"ema=1.0"),
        ("mixup = -1", r"mixup=-1"),
        ("cutout = -1", r"cutout=-1"),
        ("early_stop = -1", r"early_stop=-1"),
        ("test_every = 0", r"test_every=0 .*1 or more"),
        ("test_every = 100001", r"test_every=100001 .*at most 100,000"),
        ("test_every = 2.5", r"test_every=2.5 .*a whole number"),
        ("early_stop = 100001", r"early_stop=100001 .*at most 100,000"),
        ("epochs = ", r"mine.toml is not a TOML file"),
        ("a = " + 10000 * "[", r"mine.toml is not a TOML file"),
        ("epochs = " + 5000 * "9", r"mine.toml is not a TOML file|epochs=a value of type int"),
        ("epochs = 100000000000000000000", r"epochs=100000000000000000000 .*at most 100,000"),
        ("cutout = 100000000000000000000", r"cutout=100000000000000000000 .*10,000 pixels"),
        ("variant = { a = 1979-05-27 }", r"no variant 'a'"),
        ("variant = { se = 1979-05-27 }", r"se=datetime.date\(1979, 5, 27\) .*true or false"),
        ("variant = { se = 2 }", r"se=2 .*true or false"),
        ("variant = { num_classes = 3 }", r"no variant 'num_classes'"),
        ("variant = { stage_channels = 48 }", r"stage_channels=48 .*a list of whole numbers"),
        ("data_dir = 1979-05-27", r"data_dir=datetime.date\(1979, 5, 27\) .*text"),
        ('data_dir = "~nobody-of-this-name/x"', r"this machine does not know"),
        ('data_dir = "a\\u0000b"', r"data_dir='a\\x00b' is no path"),
        ("\xff", r"mine.toml is not a TOML file"),
    ],
)
def test_bad_recipes(tmp_path, text, sentence):
    file = tmp_path / "mine.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(TinyshuffleError, match=sentence) as error:
        Config.make(str(file))
    assert "mine.toml" in str(error.value)
    said = command("--recipe", file, code=1)
    assert said.startswith("Error: ") and said.count("\n") == 1


def test_words_for_no_in_a_recipe(tmp_path):
    file = tmp_path / "mine.toml"
    model = "shufflenet_v1_x0_25_g3"
    for word in ('"False"', '"no"', '"off"', '"0"', "0", "false"):
        file.write_text(f'model = "{model}"\nvariant = {{ shuffle = {word}, se = "yes" }}')
        assert Config.make(str(file)).variant == {"shuffle": False, "se": True}
        assert Config(model=model, variant={"shuffle": "no"}).variant == {"shuffle": False}


def test_a_recipe_with_a_byte_order_mark(tmp_path):
    (tmp_path / "mine.toml").write_bytes("\ufeffepochs = 3".encode())
    assert Config.make(str(tmp_path / "mine.toml")).epochs == 3


def test_numbers_of_numpy_are_numbers():
    config = Config(seed=np.int64(3), epochs=np.int32(4), lr=np.float32(0.5), sizes=[np.int64(8)])
    assert (config.seed, config.epochs, config.lr, config.sizes) == (3, 4, 0.5, (8,))
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()
    assert Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("every", [None, 2, 3, 7, 100])
@pytest.mark.parametrize("sizes", [(), (8,), (16, 24, 32), (8, 16, 8, 32)])
def test_shares_are_what_the_epochs_have(sizes, every):
    config = Config(sizes=sizes, test_every=every)
    for epochs in range(1, 12):
        of = [config.size(epoch, epochs, 32) for epoch in range(epochs)]
        for done in range(epochs + 1):
            rest = range(done, epochs)
            tests = [e for e in rest if e + 1 == epochs or (e + 1) % (every or 1) == 0]
            shares = config.shares(epochs, 32, done)
            for part, there in enumerate((rest, tests)):
                found = Counter({size: counts[part] for size, counts in shares.items()})
                assert +found == Counter(of[e] for e in there)


def test_unknown_recipes(tmp_path):
    with pytest.raises(TinyshuffleError, match=r"'lectures'.*did you mean lecture"):
        Config.make("lectures")
    for name in ("/dev/null", "../recipes/coffee", "coffee.tom"):
        with pytest.raises(TinyshuffleError, match=rf"'{name}'.*or name a file that ends in .toml"):
            Config.make(name)
    with pytest.raises(TinyshuffleError, match=r"cannot be read"):
        Config.make(str(tmp_path / "absent.toml"))


def test_contradictions():
    with pytest.raises(TinyshuffleError, match=r"epochs=3 and time_budget=5m"):
        Config.make("coffee", epochs=3, time_budget="5m")
    assert Config.make("coffee", time_budget="5m").time_budget == "5m"
    with pytest.raises(TinyshuffleError, match=r"momentum=0.9 has no effect with adam"):
        Config.make("coffee", optimizer="adam", momentum=0.9)
    said = command("--recipe", "coffee", "--resume", "any", code=1)
    assert "--recipe coffee contradicts --resume" in said
    for option, value in (("--sizes", "16;32"), ("--variant", "se")):
        assert option in command(option, value, code=2)


def test_the_built_in_images_have_a_longer_rise_in_one_cycle_only():
    assert Config.make().warmup == 2.0 and Config.make(epochs=10).warmup == 4.0
    assert Config.make(warmup=1).warmup == 1.0
    for others in ({"data": "cifar10"}, {"schedule": "cosine"}, {"time_budget": "1m"}):
        assert Config.make(**others).warmup is None
    assert Config.make("coffee").warmup is None
