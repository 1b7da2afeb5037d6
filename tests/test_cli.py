"""The command: what it prints and writes, its exit codes; errors are one line and leave files alone."""

import os
import re
import signal
import subprocess
import sys

import pytest

import mlpfast
from mlpfast import cli

pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install 'mlpfast[cli]')")

PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """run("train xor") -> exit code, lines of output, text of errors."""

    def run(command):
        code = cli.main(command.split())
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return run


@pytest.fixture
def model(folder):
    mlpfast.MLP([64, 10], input_scale=1 / 16).save("model.safetensors")
    return "model.safetensors"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def value(line, name):
    return float(re.search(rf"{name} ([\d.]+)", line)[1])


def test_plain_train_reaches_its_accuracy(run):
    code, lines, errors = run("train")
    epochs = [line for line in lines if line.startswith("epoch")]
    assert (code, errors, len(epochs)) == (0, "", 10)
    assert value(lines[-1], "test accuracy") == value(epochs[-1], "test accuracy") >= 0.95


def test_train_writes_what_is_asked_for(run, folder):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install 'mlpfast[cli]')")
    (folder / "curves.png").write_text("old")
    code, lines, _ = run(
        "train digits --epochs 2 --out m.safetensors --plot curves.png --grid grid.png --csv log.csv"
    )
    assert code == 0
    assert lines[-4:] == ["wrote m.safetensors", "wrote curves.png", "wrote grid.png", "wrote log.csv"]
    written = files(folder)
    assert sorted(written) == ["curves.png", "grid.png", "log.csv", "m.safetensors"]
    assert written["curves.png"].startswith(PNG)
    assert written["grid.png"].startswith(PNG)
    assert written["log.csv"].decode().splitlines()[0].startswith("epoch,train_loss,train_accuracy")


def test_options_reach_the_network(run):
    command = (
        "train digits --hidden 20 --hidden 10 5 --activation tanh --init normal:0.1 --epochs 3 "
        "--batch-size 100 --lr 0.2 --momentum 0.5 --nesterov --weight-decay 0.01 --seed 7 "
        "--dtype float64 --precision ieee --threads 1 --out model.safetensors"
    )
    assert run(command)[0] == 0
    model, data = mlpfast.MLP.load("model.safetensors"), mlpfast.datasets.digits()
    expected = mlpfast.MLP(
        [64, 20, 10, 5, 10],
        activation="tanh",
        init="normal:0.1",
        input_scale=1 / 16,
        seed=7,
        dtype="float64",
        precision="ieee",
    )
    mlpfast.Trainer(expected, mlpfast.SGD(0.2, 0.5, True, 0.01)).fit(
        data.x_train, data.y_train, epochs=3, batch_size=100, seed=7
    )
    assert model._facts() == expected._facts() and model.dtype == "float64"
    assert all((a == b).all() for a, b in zip(model.parameters, expected.parameters, strict=True))


def test_hidden_alone_is_softmax_regression(run):
    assert run("train digits --epochs 1 --out model.safetensors --hidden")[0] == 0
    assert mlpfast.MLP.load("model.safetensors").sizes == (64, 10)


def test_threads_hold_for_the_command_only(run, monkeypatch):
    seen, before = [], mlpfast.get_num_threads()
    monkeypatch.setattr(mlpfast, "show_config", lambda: seen.append(mlpfast.get_num_threads()))
    assert run("info --threads 3")[0] == 0
    assert seen == [3]
    assert mlpfast.get_num_threads() == before


def test_xor_of_every_seed(run):
    for seed in range(10):
        code, lines, _ = run(f"train xor --seed {seed}")
        assert (code, lines[-1]) == (0, "test accuracy 1.0000")


def test_evaluate_and_predict_a_trained_model(run):
    _, trained, _ = run("train --epochs 3 --out model.safetensors")
    code, lines, _ = run("evaluate model.safetensors digits")
    assert code == 0
    assert value(lines[0], "test accuracy") == value(trained[-2], "test accuracy")
    code, lines, _ = run("predict model.safetensors digits --rows 350:")
    data, model = mlpfast.datasets.digits(), mlpfast.MLP.load("model.safetensors")
    guesses = model.predict(data.x_test[350:])
    assert code == 0
    assert [line.split()[:3] for line in lines[1:]] == [
        [str(350 + i), str(data.y_test[350 + i]), str(guess)] for i, guess in enumerate(guesses)
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [("0:3", [0, 1, 2]), ("7", [7]), ("358:", [358, 359]), (":2", [0, 1]), ("359:999", [359])],
)
def test_predict_rows(run, model, rows, expected):
    code, lines, _ = run(f"predict {model} digits --rows {rows}")
    assert code == 0
    assert [int(line.split()[0]) for line in lines[1:]] == expected


def test_predict_marks_mistakes(run, model):
    _, lines, _ = run(f"predict {model} digits --rows 0:50")
    for line in lines[1:]:
        _, name, guess, *mark = line.split()
        assert mark == ([] if name == guess else ["(wrong)"])


def test_info(run):
    code, lines, _ = run("info")
    text = "\n".join(lines)
    assert code == 0
    assert all(
        word in text for word in (mlpfast.__version__, mlpfast._cpu.isa(), "highest", "threads", "numpy")
    )


def test_a_device_that_cannot(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlpfast._cuda", None)
    mlpfast.MLP([2, 2]).save(tmp_path / "model.safetensors")
    for command in ("train xor", f"evaluate {tmp_path}/model.safetensors xor"):
        status, _, errors = run(f"{command} --device cuda")
        assert status == 4 and "device 'cuda' cannot be used" in errors


@pytest.mark.parametrize("command", ["--help", "train --help", "predict --help", "--version"])
def test_help(run, command):
    code, lines, errors = run(command)
    assert (code, errors) == (0, "")
    assert "mlpfast" in lines[0]


def test_help_without_docstrings(environment):
    with subprocess_of("-OO", "-m", "mlpfast", "--help", program=(), env=environment) as process:
        out, _ = process.communicate(timeout=60)
    assert all(text in " ".join(out.split()) for _, text in cli.COMMANDS.values())


def test_help_tells_every_default(run):
    text = "\n".join(run("train --help")[1])
    assert all(name in text for name in mlpfast.datasets.DATASETS)
    assert "--batch-size 32" in text
    assert cli.SETTINGS.keys() == mlpfast.datasets.DATASETS.keys()


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("", 2, "COMMAND"),
        ("nope", 2, "nope"),
        ("train nope", 2, "fashion-mnist"),
        ("train --nope", 2, "--nope"),
        ("train digits --epoch 3", 2, "--epoch"),
        ("train --lr fast", 2, "--lr"),
        ("train --lr nan", 2, "lr is nan"),
        ("train --epochs 0", 2, "epochs"),
        ("train --batch-size 0", 2, "batch_size"),
        ("train --hidden 0", 2, "sizes"),
        ("train --hidden 32,16", 2, "give several as 256 128"),
        ("train --hidden 32 digits", 2, "the data set comes before the options"),
        ("train --seed -1", 2, "seed"),
        ("train --threads 0", 2, "at least 1"),
        ("train --nesterov --momentum 0", 2, "nesterov"),
        ("train --activation nope", 2, "known are"),
        ("train --init nope", 2, "known are"),
        ("train --precision nope", 2, "known are"),
        ("train --dtype float16", 2, "float16"),
        ("train --hidden 10000000000", 1, "allocate"),
        ("train --data-dir .", 2, "--data-dir"),
        ("train xor --grid grid.png", 2, "no images"),
        ("train --plot curves.xyz", 2, ".png"),
        ("train --out a.png --plot ./a.png", 2, "different files"),
        ("train xor --lr 1e30", 1, "not finite at epoch"),
        ("evaluate nope digits", 1, "nope"),
        ("evaluate model.safetensors", 2, "DATASET"),
        ("evaluate model.safetensors xor", 2, "64 features"),
        ("predict model.safetensors digits --rows 400:500", 2, "360"),
        ("predict model.safetensors digits --rows a:b", 2, "a:b"),
        ("predict model.safetensors digits --rows 1:2:3", 2, "1:2:3"),
        ("predict model.safetensors digits --rows ", 2, "--rows"),
    ],
)
def test_wrong_arguments(run, folder, model, command, code, text):
    before = files(folder)
    found, lines, errors = run(command)
    assert found == code
    assert not lines or code == 1  # wrong arguments are found before anything is printed
    assert text in errors
    assert errors.startswith("mlpfast: error: ")
    assert errors.count("\n") == 1
    assert files(folder) == before


@pytest.mark.parametrize("data_set", ["fashion-mnist", "mnist"])
def test_missing_data(run, data_set):
    code, _, errors = run(f"train {data_set} --data-dir .")
    assert code == 3
    assert errors.startswith(f"mlpfast: error: {data_set} was not found")
    assert "https://" in errors


@pytest.mark.parametrize("option", ["--out", "--plot", "--grid", "--csv"])
@pytest.mark.parametrize("path", ["nowhere/x.png", "folder.png", "file.png/x.png", "/proc/x.png", "x" * 300])
def test_unwritable_outputs_are_found_before_training(run, folder, option, path):
    (folder / "folder.png").mkdir()
    (folder / "file.png").write_text("precious")
    code, lines, errors = run(f"train {option} {path}")
    assert (code, lines) == (1, [])
    assert errors.startswith(f"mlpfast: error: cannot write {path}")
    assert sorted(p.name for p in folder.iterdir()) == ["file.png", "folder.png"]
    assert (folder / "file.png").read_text() == "precious"


def test_a_failed_training_leaves_old_outputs(run, folder):
    for name in ("m.safetensors", "c.png"):
        (folder / name).write_text("precious")
    assert run("train xor --lr 1e30 --out m.safetensors --plot c.png")[0] == 1
    assert set(files(folder).values()) == {b"precious"}


def test_ctrl_c(run, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(mlpfast, "show_config", interrupted)
    assert run("info") == (130, [], "mlpfast: interrupted\n")


def test_device_error(run, monkeypatch):
    def refused():
        raise mlpfast.DeviceError("no such device")

    monkeypatch.setattr(mlpfast, "show_config", refused)
    assert run("info") == (4, [], "mlpfast: error: no such device\n")


def subprocess_of(*command, program=("-m", "mlpfast"), **options):
    command = [sys.executable, "-W", "error", *program, *command]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture
def environment():
    """That of a child process which finds this mlpfast."""
    paths = [os.path.dirname(os.path.dirname(mlpfast.__file__)), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def test_as_a_program(environment):
    with subprocess_of("train", "xor", "--epochs", "3", env=environment) as process:
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert len(re.findall(r"^epoch +\d+ ", out, re.M)) == 3
    assert "\x1b" not in out


# A shell's background processes, of which these tests may be one, ignore SIGINT.
HEARING = """
import signal, sys
from mlpfast.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_keeps_what_it_learnt(number, environment, folder):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install 'mlpfast[cli]')")
    options = ["--epochs", "100000000", "--out", "m.safetensors", "--plot", "curves.png", "--csv", "log.csv"]
    with subprocess_of("train", "xor", *options, program=("-c", HEARING), env=environment) as process:
        for line in process.stdout:
            if line.startswith("epoch 100 "):
                process.send_signal(number)
                break
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.endswith("mlpfast: interrupted\n")  # perhaps after Python's warning of a file just opened
    assert out.splitlines()[-3:] == ["wrote m.safetensors", "wrote curves.png", "wrote log.csv"]
    written, xor = files(folder), mlpfast.datasets.xor()
    assert sorted(written) == ["curves.png", "log.csv", "m.safetensors"]
    assert written["curves.png"].startswith(PNG) and written["log.csv"].count(b"\n") >= 100
    assert mlpfast.MLP.load("m.safetensors").evaluate(xor.x_test, xor.y_test)["accuracy"] == 1


def test_an_interruption_before_the_first_step_leaves_old_outputs(run, folder, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(mlpfast.Trainer, "fit", interrupted)
    (folder / "m.safetensors").write_text("precious")
    assert run("train xor --out m.safetensors")[0] == 130
    assert files(folder) == {"m.safetensors": b"precious"}
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_reader_who_leaves(environment):
    """What was learnt until then is kept."""
    options = ["--epochs", "100000", "--out", "m.safetensors"]
    with subprocess_of("train", "xor", *options, env=environment) as process:
        while not process.stdout.readline().startswith("epoch "):
            pass
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.wait(60), errors) == (1, "")
    assert mlpfast.MLP.load("m.safetensors").sizes == (2, 16, 2)


def test_no_output_at_all(environment):
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "mlpfast"]
    for command in (["train", "xor", "--epochs", "2", "--out", "m.safetensors"], ["info"]):
        done = subprocess.run([*shell, *command], capture_output=True, timeout=60, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
    assert mlpfast.MLP.load("m.safetensors").sizes == (2, 16, 2)


def test_names_of_any_bytes(environment, folder):
    for name in (b"\xff.safetensors", b"a" * 240 + b".safetensors"):
        options = ["--epochs", "2", "--out", os.fsdecode(name)]
        strict = environment | {"PYTHONIOENCODING": "utf-8:strict"}
        with subprocess_of("train", "xor", *options, env=strict) as process:
            out, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        assert out.endswith(".safetensors\n") and (folder / os.fsdecode(name)).exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)  # of the scalar kernels
def test_the_chapter(run, data_dir):
    """The settings of Zhang et al., Dive into Deep Learning; PyTorch's train loss is 0.381 to 0.387."""
    code, lines, _ = run(
        "train fashion-mnist --hidden 256 --epochs 10 --batch-size 256 --lr 0.1 --init normal:0.01 "
        f"--data-dir {data_dir} --out model.safetensors"
    )
    assert code == 0
    last = next(line for line in lines if line.startswith("epoch  10"))
    assert 0.37 <= value(last, "train loss") <= 0.40
    assert value(last, "test accuracy") >= 0.81
    code, lines, _ = run(f"predict model.safetensors fashion-mnist --data-dir {data_dir} --rows 0:3")
    assert [line.split()[1] for line in lines[1:]] == ["Ankle", "Pullover", "Trouser"]
