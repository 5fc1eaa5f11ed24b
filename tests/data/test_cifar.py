import hashlib
import http.server
import io
import os
import socket
import tarfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinyshuffle.data import NAMES as data_names
from tinyshuffle.data import cifar, describe, load
from tinyshuffle.data.archive import _ProgressBar, data_root, locate
from tinyshuffle.errors import TinyshuffleError

pytestmark = pytest.mark.filterwarnings("ignore:.*is whole, but its:UserWarning")

TEN = replace(cifar.CIFAR10, records=(20, 10))
HUNDRED = replace(cifar.CIFAR100, records=(200, 100))
NAMES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())


def contents(source, seed=0):
    """The files of a small copy of CIFAR: {name: bytes}."""
    rng = np.random.default_rng(seed)
    files = {}
    for names, count in zip((source.train, source.test), source.records, strict=True):
        for name in names:
            table = rng.integers(0, 256, (count, source.label_bytes + 3072), np.uint8)
            table[:, 0] = 19  # the coarse label, if there are two
            table[:, source.label_bytes - 1] = np.arange(count) % source.num_classes
            files[name] = table.tobytes()
    names = [f"class_{i}" for i in range(source.num_classes)]
    files[source.names] = ("\n".join(names) + "\n\n").encode()
    return files


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def pack(source, members):
    """A tar.gz of {path: bytes}, and the source that expects it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path, content in members.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    archive = buffer.getvalue()
    return archive, replace(source, size=len(archive), md5=hashlib.md5(archive).hexdigest())


def packed(source):
    """The archive as the official one is made, and the source that expects it."""
    files = contents(source)
    return pack(source, {f"{source.folder}/{name}": content for name, content in files.items()})


def everything(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("source", [TEN, HUNDRED], ids=lambda source: source.name)
@pytest.mark.parametrize("inner", [True, False], ids=["folder", "bare"])
def test_reads_unpacked_files(source, inner, tmp_path):
    files = contents(source)
    write(tmp_path / source.folder if inner else tmp_path, files)
    before = everything(tmp_path)
    train, test = cifar.load(source, tmp_path, download=False)
    assert everything(tmp_path) == before
    for dataset, names in ((train, source.train), (test, source.test)):
        records = np.concatenate(
            [
                np.frombuffer(files[n], np.uint8).reshape(-1, source.label_bytes + 3072)
                for n in names
            ]
        )
        assert len(dataset) == len(records)
        assert dataset.images.shape == (len(records), 32, 32, 3)
        assert dataset.images.dtype == np.uint8 and dataset.labels.dtype == np.int64
        assert (dataset.labels == records[:, source.label_bytes - 1]).all()
        for channel in range(3):
            start = source.label_bytes + 1024 * channel
            plane = records[:, start : start + 1024].reshape(-1, 32, 32)  # row by row
            assert (dataset.images[..., channel] == plane).all()
        assert dataset.classes[3] == "class_3" and len(dataset.classes) == source.num_classes
        assert (dataset.mean == train.mean).all() and (dataset.std == train.std).all()
    np.testing.assert_allclose(train.mean, train.images.mean((0, 1, 2)) / 255, rtol=1e-5)


def test_the_official_layout():
    assert cifar.CIFAR10.records[0] * 5 == cifar.CIFAR100.records[0] == 50_000
    assert cifar.CIFAR10.records[1] == cifar.CIFAR100.records[1] == 10_000
    assert cifar.CIFAR10.archive == "cifar-10-binary.tar.gz"
    assert cifar.CIFAR100.archive == "cifar-100-binary.tar.gz"
    assert {url.split("/")[-1] for url in cifar.CIFAR100.urls} == {"cifar-100-binary.tar.gz"}


def test_root_is_argument_then_environment_then_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYSHUFFLE_DATA", str(tmp_path / "environment"))
    assert data_root(tmp_path) == tmp_path
    assert data_root() == tmp_path / "environment"
    write(tmp_path / "environment", contents(TEN))
    assert len(cifar.load(TEN, download=False)[0]) == 100
    monkeypatch.delenv("TINYSHUFFLE_DATA")
    assert "tinyshuffle" in str(data_root())
    assert tmp_path not in data_root().parents


# Files that are not what they should be


@pytest.mark.parametrize("change", [-1, 1, -3073])
def test_a_file_of_the_wrong_size(change, tmp_path):
    files = contents(TEN)
    files["data_batch_3.bin"] = (files["data_batch_3.bin"] + b"\0")[: 20 * 3073 + change]
    write(tmp_path, files)
    with pytest.raises(TinyshuffleError) as error:
        cifar.load(TEN, tmp_path, download=False)
    for part in ("data_batch_3.bin", f"{20 * 3073:,}", f"{20 * 3073 + change:,}"):
        assert part in str(error.value)


@pytest.mark.parametrize("source", [TEN, HUNDRED], ids=lambda source: source.name)
def test_a_label_out_of_range(source, tmp_path):
    files = contents(source)
    content = bytearray(files[source.test[0]])
    content[4 * (source.label_bytes + 3072) + source.label_bytes - 1] = source.num_classes
    write(tmp_path, files | {source.test[0]: bytes(content)})
    with pytest.raises(TinyshuffleError, match=f"record 4 has the label {source.num_classes}"):
        cifar.load(source, tmp_path, download=False)


def test_too_few_class_names(tmp_path):
    write(tmp_path, contents(TEN) | {TEN.names: b"cat\ndog\n"})
    with pytest.raises(TinyshuffleError, match="names 2 classes, but cifar10 has 10"):
        cifar.load(TEN, tmp_path, download=False)


def in_each_others_place():
    """What can go wrong with whole files: a name, {file: bytes} for CIFAR-10, and the reason."""
    files = contents(TEN)
    first, second, names = files["data_batch_1.bin"], "data_batch_2.bin", TEN.names
    official = "\n".join(NAMES)
    uneven = bytearray(first)
    uneven[0] = 1  # the label had been 0
    yield "copy", {second: first}, "data_batch_2.bin and data_batch_1.bin are the same file"
    yield "zeros", {second: bytes(len(first))}, "data_batch_2.bin holds nothing but zeros"
    yield "uneven", {"data_batch_1.bin": bytes(uneven)}, "11 images .*label 1 and 9 .*label 0"
    reverse = "\n".join(reversed(NAMES))
    yield "reversed", {names: reverse.encode()}, "in another order, truck as number 0"
    yield "twice", {names: official.replace("dog", "cat").encode()}, "names the class cat twice"
    yield "UTF-16", {names: official.encode("utf-16")}, "is not a text in UTF-8"
    yield "Latin-1", {names: official.replace("cat", "Löwe").encode("latin-1")}, "not .* UTF-8"


@pytest.mark.parametrize(
    "files, reason",
    [pytest.param(files, reason, id=name) for name, files, reason in in_each_others_place()],
)
def test_whole_files_that_cannot_be_what_they_are_called(files, reason, tmp_path):
    write(tmp_path, contents(TEN) | files)
    with pytest.raises(TinyshuffleError, match=reason) as error:
        cifar.load(TEN, tmp_path, download=False)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_training_batch_as_the_test_batch(tmp_path):
    files = contents(HALVES := replace(TEN, records=(10, 10)))
    write(tmp_path, files | {"test_batch.bin": files["data_batch_4.bin"]})
    with pytest.raises(TinyshuffleError, match="test_batch.bin and data_batch_4.bin are the same"):
        cifar.load(HALVES, tmp_path, download=False)


def test_class_names_with_an_editors_mark(tmp_path):
    names = "\ufeff" + "\r\n".join(NAMES)  # as Notepad writes them
    write(tmp_path, contents(TEN) | {TEN.names: names.encode()})
    assert cifar.load(TEN, tmp_path, download=False)[0].classes == NAMES


def test_whole_files_that_are_not_the_official_ones_are_named_and_used(tmp_path):
    write(tmp_path, contents(TEN))
    with pytest.warns(UserWarning, match="whole, but its training images are not") as said:
        train, _ = cifar.load(TEN, tmp_path, download=False)
    assert len(said) == 1 and str(tmp_path) in str(said[0].message)
    assert cifar.CIFAR10.classes == NAMES
    official = replace(TEN, mean=tuple(train.mean), std=tuple(train.std), classes=train.classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # and of those that are, there is nothing to say
        cifar.load(official, tmp_path, download=False)
    with pytest.warns(UserWarning, match="class names are not"):
        cifar.load(replace(official, classes=NAMES), tmp_path, download=False)


@pytest.mark.parametrize("found", [set(), {"test_batch.bin", "batches.meta.txt"}])
def test_missing_files_without_a_download(found, tmp_path):
    files = contents(TEN)
    write(tmp_path, {name: files[name] for name in found})
    with pytest.raises(TinyshuffleError) as error:
        cifar.load(TEN, tmp_path, download=False)
    for part in (TEN.archive, TEN.md5, TEN.urls[0], str(tmp_path), "TINYSHUFFLE_DATA"):
        assert part in str(error.value)


# The archive


@pytest.mark.parametrize("source", [TEN, HUNDRED], ids=lambda source: source.name)
def test_unpacks_an_archive_that_lies_there(source, tmp_path):
    archive, source = packed(source)
    (tmp_path / source.archive).write_bytes(archive)
    train, _ = cifar.load(source, tmp_path, download=False)
    assert len(train) == len(source.train) * source.records[0]
    expected = {os.path.join(source.folder, n): c for n, c in contents(source).items()}
    assert everything(tmp_path) == expected | {source.archive: archive}


def test_unpacks_what_was_lost(tmp_path):
    archive, source = packed(TEN)
    (tmp_path / source.archive).write_bytes(archive)
    files = contents(source)
    write(tmp_path / source.folder, {n: files[n] for n in source.files if n != "data_batch_2.bin"})
    assert len(cifar.load(source, tmp_path, download=False)[0]) == 100


def test_other_members_of_the_archive_are_left_in_it(tmp_path):
    members = {f"{TEN.folder}/{name}": content for name, content in contents(TEN).items()}
    archive, source = pack(TEN, members | {f"{TEN.folder}/readme.html": b"hello"})
    (tmp_path / source.archive).write_bytes(archive)
    folder = locate(source, tmp_path, download=False)
    assert {path.name for path in folder.iterdir()} == set(source.files)


@pytest.mark.parametrize("damage", ["truncated", "corrupt"])
def test_a_damaged_archive(damage, tmp_path):
    archive, source = packed(TEN)
    archive = archive[:-100] if damage == "truncated" else archive[:500] + b"!" + archive[501:]
    (tmp_path / source.archive).write_bytes(archive)
    with pytest.raises(TinyshuffleError) as error:
        cifar.load(source, tmp_path, download=False)
    found = hashlib.md5(archive).hexdigest()
    for part in (source.archive, source.md5, found, f"{source.size:,}", f"{len(archive):,}"):
        assert part in str(error.value)
    assert everything(tmp_path) == {source.archive: archive}


@pytest.mark.parametrize("path", ["../outside.bin", "/tmp/outside.bin", "a/../../outside.bin"])
def test_an_archive_that_points_outside_is_refused(path, tmp_path):
    members = {f"{TEN.folder}/{name}": content for name, content in contents(TEN).items()}
    archive, source = pack(TEN, members | {path: b"evil"})
    directory = tmp_path / "inside"
    directory.mkdir()
    (directory / source.archive).write_bytes(archive)
    with pytest.raises(TinyshuffleError, match="points outside"):
        cifar.load(source, directory, download=False)
    assert everything(tmp_path) == {os.path.join("inside", source.archive): archive}


def test_an_archive_with_a_link_is_refused(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo(f"{TEN.folder}/data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    archive = buffer.getvalue()
    source = replace(TEN, md5=hashlib.md5(archive).hexdigest())
    (tmp_path / source.archive).write_bytes(archive)
    with pytest.raises(TinyshuffleError, match="is a link"):
        cifar.load(source, tmp_path, download=False)
    assert everything(tmp_path) == {source.archive: archive}


def test_many_may_unpack_at_once(tmp_path):
    archive, source = packed(TEN)
    (tmp_path / source.archive).write_bytes(archive)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: cifar.load(source, tmp_path, False), range(16)))
    for train, test in results:
        assert (train.images == results[0][0].images).all() and len(test) == 10
    assert len(everything(tmp_path)) == 1 + len(source.files)


# The network


class Server:
    """Serves {path: bytes}. A path with "broken" in it stops in the middle, one with "slow"
    dawdles there."""

    def __init__(self, files):
        self.requests = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append(self.path)
                content = files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                half = len(content) // 2
                self.wfile.write(content[:half])
                if "broken" in self.path:
                    return
                if "slow" in self.path:
                    time.sleep(0.5)
                self.wfile.write(content[half:])

            def log_message(self, *arguments):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = []

    def start(files):
        started.append(Server(files))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def test_downloads_from_the_first_that_has_it(serve, tmp_path):
    archive, source = packed(TEN)
    name = source.archive
    server = serve({f"/good/{name}": archive, f"/broken/{name}": archive, f"/wrong/{name}": b"no"})
    kinds = ("missing", "wrong", "broken", "good", "never")
    source = replace(source, urls=tuple(f"{server.address}/{kind}/{name}" for kind in kinds))
    train, _ = cifar.load(source, tmp_path / "new")
    assert len(train) == 100
    assert [path.split("/")[1] for path in server.requests] == list(kinds[:4])
    assert (tmp_path / "new" / name).read_bytes() == archive

    cifar.load(
        source, tmp_path / "new"
    )  # nothing more to download, nor if only the archive is left
    for file in source.files:
        (tmp_path / "new" / source.folder / file).unlink()
    cifar.load(source, tmp_path / "new")
    assert len(server.requests) == 4


@pytest.mark.parametrize("kind", ["missing", "wrong", "broken"])
def test_a_failed_download_replaces_nothing(kind, serve, tmp_path):
    archive, source = packed(TEN)
    old = archive[:-1]
    (tmp_path / source.archive).write_bytes(old)
    server = serve({"/broken/a.tar.gz": archive, "/wrong/a.tar.gz": archive[:-2]})
    url = f"{server.address}/{kind}/a.tar.gz"
    source = replace(source, urls=(url,))
    (tmp_path / source.archive).write_bytes(old)
    before = everything(tmp_path)
    with pytest.raises(TinyshuffleError) as error:
        cifar.load(source, tmp_path)
    assert server.requests == [f"/{kind}/a.tar.gz"]
    assert everything(tmp_path) == before
    sentence = str(error.value)
    assert {"missing": "404", "wrong": "MD5", "broken": "127.0.0.1"}[kind] in sentence
    for part in (source.archive, source.md5, hashlib.md5(old).hexdigest(), url, str(tmp_path)):
        assert part in sentence


def test_a_damaged_archive_is_replaced_by_a_good_one(serve, tmp_path):
    archive, source = packed(TEN)
    server = serve({f"/{source.archive}": archive})
    source = replace(source, urls=(f"{server.address}/{source.archive}",))
    (tmp_path / source.archive).write_bytes(archive[:1000])
    assert len(cifar.load(source, tmp_path)[0]) == 100
    assert (tmp_path / source.archive).read_bytes() == archive


@pytest.mark.parametrize("mirror, asked", [("good", 2), ("missing", 3)])
def test_a_slow_server_is_left_for_a_faster_one(mirror, asked, serve, tmp_path, monkeypatch):
    monkeypatch.setattr(_ProgressBar, "PATIENCE", 0.2)
    monkeypatch.setattr(_ProgressBar, "SLOW", 1e9)
    archive, source = packed(TEN)
    server = serve({f"/slow/{source.archive}": archive, f"/good/{source.archive}": archive})
    urls = tuple(f"{server.address}/{kind}/{source.archive}" for kind in ("slow", mirror))
    assert len(cifar.load(replace(source, urls=urls), tmp_path)[0]) == 100
    # Where no mirror helps, slow is better than never.
    assert [path.split("/")[1] for path in server.requests] == ["slow", mirror, "slow"][:asked]


def test_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/cifar-10-binary.tar.gz"
    with pytest.raises(TinyshuffleError) as error:
        cifar.load(replace(TEN, urls=(url, url)), tmp_path)
    for part in (TEN.archive, TEN.md5, url, str(tmp_path), "--data-dir", "TINYSHUFFLE_DATA"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert everything(tmp_path) == {}


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"not a directory")
    source = replace(TEN, urls=("http://127.0.0.1:9/cifar-10-binary.tar.gz",))
    with pytest.raises(TinyshuffleError, match="could not be written"):
        cifar.load(source, tmp_path / "file")


# By name


@pytest.mark.parametrize(
    "name, near", [("cifer10", "cifar10"), ("CIFAR-100", "cifar100"), ("shape", "shapes")]
)
def test_an_unknown_name(name, near):
    with pytest.raises(TinyshuffleError, match=f"'{name}' .*{near}"):
        load(name)


def test_a_name_like_no_other():
    with pytest.raises(TinyshuffleError, match="shapes, cifar10, cifar100"):
        load("mnist")


def test_describe_shapes():
    facts = describe("shapes")
    assert facts["where"] == "built in"
    assert facts["train_per_class"] == [800] * 10 and facts["test_per_class"] == [200] * 10
    assert len(facts["mean"]) == len(facts["std"]) == 3


def test_describe_does_not_download(tmp_path):
    with pytest.raises(TinyshuffleError, match="is not in"):
        describe("cifar100", tmp_path)
    assert everything(tmp_path) == {}


def test_real_cifar10():
    root = os.environ.get("TINYSHUFFLE_DATA")
    if not root or not any(Path(root).rglob("data_batch_1.bin")):
        pytest.skip("TINYSHUFFLE_DATA does not name a directory with CIFAR-10")
    train, test = load("cifar10", root, download=False)
    assert (np.bincount(train.labels) == 5000).all() and (np.bincount(test.labels) == 1000).all()
    assert train.classes[0] == "airplane" and train.classes[9] == "truck"
    np.testing.assert_allclose(train.mean, [0.4914, 0.4822, 0.4465], atol=0.005)
    np.testing.assert_allclose(train.std, [0.2470, 0.2435, 0.2616], atol=0.01)
    facts = describe("cifar10", root)
    assert facts["train"] == 50_000 and facts["test_per_class"] == [1000] * 10
    # A sky is blue and on top: channels and rows are in the right order.
    sky = train.images[train.labels == 0][:, :4].mean((0, 1, 2))
    assert sky[2] > sky[0] and sky.mean() > train.images[train.labels == 0][:, 20:].mean()


def test_the_coarse_labels_of_cifar100(tmp_path):
    """The same images as those with fine labels, in twenty classes."""
    coarse = replace(cifar.CIFAR100_COARSE, records=HUNDRED.records)
    assert len(coarse.classes) == 20 and coarse.urls == HUNDRED.urls
    files = contents(HUNDRED)
    for name in (*coarse.train, *coarse.test):
        table = np.frombuffer(files[name], np.uint8).reshape(-1, 2 + 3072).copy()
        table[:, 0] = table[:, 1] // 5
        files[name] = table.tobytes()
    files[coarse.names] = "\n".join(coarse.classes).encode()
    write(tmp_path, files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fine, _ = cifar.load(HUNDRED, tmp_path, download=False)
        train, test = cifar.load(coarse, tmp_path, download=False)
    assert np.array_equal(train.images, fine.images)
    assert np.array_equal(train.labels, fine.labels // 5)
    assert train.classes == coarse.classes == test.classes
    assert "cifar100-coarse" in data_names
