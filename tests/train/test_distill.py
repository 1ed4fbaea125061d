"""Students: their trajectories, the steps that they learn, and how they draw."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import latentdiff as ld
from latentdiff import edit
from latentdiff.config.sampling import Sampling
from latentdiff.config.training import TrainStudent
from latentdiff.data import Split, load_dataset
from latentdiff.diffusion.loop import run, start
from latentdiff.diffusion.operators import make_operator
from latentdiff.errors import InputError
from latentdiff.evaluate.model import parts_of
from latentdiff.metrics.features import perceptual_loss, perceptual_network
from latentdiff.pipeline.checkpoint.folder import writing
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.pipeline.student import Student
from latentdiff.train.distill import PERCEPTUAL, StudentTask, student_network, x0_error
from latentdiff.train.perceptual import are_digits
from latentdiff.train.trajectories import (
    Trajectories,
    TrajectoryData,
    draw_trajectories,
    step_targets,
    student_levels,
)
from latentdiff.train.trajectory_folder import load_states, save_trajectories

CPU = torch.device("cpu")


@pytest.fixture(params=["vector", "pixels", "spatial"])
def teacher(request: pytest.FixtureRequest, vector: Pipeline, pixels: Pipeline) -> Pipeline:
    """An MLP on vectors, UNets on pixels and on a grid, all with classes."""
    if request.param == "spatial":
        return ld.load(request.getfixturevalue("tiny_spatial_run"))
    return vector if request.param == "vector" else pixels


def drawn(teacher: Pipeline, n: int = 24, calls: int = 2, steps: int = 4, high: float = 3.0) -> Trajectories:
    return draw_trajectories(teacher, n, calls=calls, steps=steps, scales=(1.0, high), seed=5)


def test_trajectories_are_what_the_teacher_draws(teacher: Pipeline) -> None:
    """The noise of the seeds at one end, at the other the latents of its samples, with their guidance."""
    made, steps = drawn(teacher, n=66), Sampling(steps=4)
    key = teacher.key(5, 66)
    assert torch.equal(made.states[:, 0], start(key, teacher.codec.latent_shape))
    assert made.levels[0] == teacher.plan(steps)[1][0] and made.levels[-1] == 0
    assert len({round(float(w), 4) for w in made.scales}) > 8 and made.conditioning is not None
    null = len(teacher.classes)
    for k in (0, 4, 29, 65):
        label, w = int(made.conditioning[k]), float(made.scales[k])
        step, levels = teacher.plan(steps)
        labels = None if label == null else torch.tensor([label])
        denoise = teacher.denoiser(labels, steps, guidance=1.0 if labels is None else w)
        x = run(denoise, made.states[k : k + 1, 0], levels, step, key[k : k + 1])
        torch.testing.assert_close(made.states[k : k + 1, -1], x, rtol=0, atol=2e-4)


def test_every_condition_has_every_guidance(teacher: Pipeline) -> None:
    """Classes come about as often as each other, a tenth of the trajectories has none."""
    kinds = len(teacher.classes)
    made = drawn(teacher, n=160 * kinds, steps=2)
    assert made.conditioning is not None
    labels = made.conditioning
    counts = torch.bincount(labels, minlength=kinds + 1)
    assert int(counts[-1]) == pytest.approx(16 * kinds, abs=4 * (16 * kinds) ** 0.5)
    if not teacher.class_counts:
        assert int(counts[:-1].max()) <= 1.3 * int(counts[:-1].min())
    for label in range(kinds + 1):  # without a class, too
        found = made.scales[labels == label]
        least, most = (1, 3) if label < kinds else (1.2, 2.8)
        assert float(found.min()) <= least and float(found.max()) >= most
        assert abs(float(found.mean()) - 2) < 0.3


def test_guided_trajectories_of_pixels_are_clipped_as_the_teachers(pixels: Pipeline) -> None:
    """A mean of clipped images is not what sampling clips."""
    assert pixels.diffusion.clip is not None
    pixels = replace(pixels, network=copy.deepcopy(pixels.network))
    with torch.no_grad():
        for weight in pixels.network.get_submodule("head").parameters():
            weight.mul_(8)  # far outside [-1, 1], where clipping matters
    made = draw_trajectories(pixels, 6, calls=2, steps=4, scales=(4.0, 4.0), seed=5)
    assert made.conditioning is not None
    classes = (made.conditioning < len(pixels.classes)).nonzero().flatten().tolist()
    labels = made.conditioning[classes].tolist()
    wanted = torch.cat(
        [
            pixels.sample(1, label=label, seed=5 + k, steps=4, guidance=4.0)
            for k, label in zip(classes, labels, strict=True)
        ]
    )
    torch.testing.assert_close(pixels.decode(made.states[classes, -1]), wanted, rtol=0, atol=1e-5)


def test_the_condition_does_not_decide_the_guidance(text_folder: Path) -> None:
    """Not even where there are more captions than trajectories."""
    teacher = ld.load(text_folder / "runs" / "text")
    prompts = [f"a disc {k}" for k in range(500)]
    made = draw_trajectories(teacher, 60, calls=1, steps=2, scales=(1.0, 3.0), seed=0, prompts=prompts)
    assert len(set(made.scales.tolist())) > 10
    empty = teacher.conditioner.encode("", 1)
    assert empty is not None and made.conditioning is not None
    assert 1 <= sum(torch.allclose(each, empty[0].cpu(), atol=1e-5) for each in made.conditioning) <= 20


def test_trajectories_are_known_by_what_they_follow_from(vector: Pipeline) -> None:
    """Not by their last digits, which depend on threads and batches."""

    def data(teacher: Pipeline, made: Trajectories, *prompts: str) -> TrajectoryData:
        return TrajectoryData(teacher, (1.0, 3.0), "teacher", made, made, prompts)

    made = drawn(vector)
    known = data(vector, made).fingerprint()
    states = made.states.clone()
    states[:, 1:] += 1e-6
    assert data(vector, replace(made, states=states)).fingerprint() == known
    seen = {
        known,
        data(vector, made, "a text").fingerprint(),
        data(vector, drawn(vector, high=2)).fingerprint(),
    }
    seen.add(
        data(vector, draw_trajectories(vector, 24, calls=2, steps=4, scales=(1, 3), seed=6)).fingerprint()
    )
    seen.add(data(vector, drawn(vector, calls=1)).fingerprint())
    other = copy.deepcopy(vector.network)
    with torch.no_grad():
        next(other.parameters()).mul_(1.1)
    seen.add(data(replace(vector, network=other), made).fingerprint())
    assert len(seen) == 6


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_a_student_draws_at_the_levels_that_it_has_learned(pixels: Pipeline, calls: int) -> None:
    """A teacher that predicts eps starts below the highest level, where its student would not by itself."""
    eps = pixels.diffusion.model_copy(update={"prediction": "eps", "clip": None})
    teacher = replace(pixels, diffusion=eps)
    made = drawn(teacher, calls=calls, steps=4)
    student = task_of(teacher, made).pipeline(pixels.network)
    assert tuple(student.plan(Sampling())[1]) == made.levels
    assert made.levels[0] < teacher.schedule.T


def test_edits_of_a_student_are_refused(pixels: Pipeline) -> None:
    student = replace(pixels, network=student_network(pixels, 0), student=Student(calls=2))
    images = torch.zeros(1, *pixels.codec.image_shape)
    whole = make_operator("mask", pixels.codec.image_shape, mask=torch.ones(pixels.codec.image_shape))
    for attempt in (
        lambda: edit.sdedit(student, images, 5),
        lambda: edit.invert(student, images),
        lambda: edit.denoise_iteratively(student, images, 5),
        lambda: edit.restore(student, whole, images),
    ):
        with pytest.raises(InputError, match=r"is a student .* expected its teacher"):
            attempt()
    assert parts_of(student) == ("samples",) and "denoiser" in parts_of(pixels)


def test_a_compiled_student_takes_its_guidance(vector: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    student = replace(vector, network=student_network(vector, 0), student=Student(calls=2, guidance_high=3))
    plain, compiled = (student.sample(2, label=0, guidance=2.0, compile=each) for each in (False, True))
    torch.testing.assert_close(plain, compiled, rtol=0, atol=1e-6)


def test_a_trajectory_does_not_depend_on_the_others(teacher: Pipeline) -> None:
    few, many = drawn(teacher, n=6), drawn(teacher, n=40)
    torch.testing.assert_close(few.states, many.states[:6], rtol=0, atol=1e-5)


def test_one_step_to_the_target_leads_to_the_next_state(teacher: Pipeline) -> None:
    made = drawn(teacher, calls=2, steps=6)
    known = [teacher.schedule.at(t) for t in made.levels]
    targets = step_targets(made, known)
    for k, ((alpha, sigma), (alpha_next, sigma_next)) in enumerate(pairwise(known)):
        noise = (made.states[:, k] - alpha * targets[:, k]) / sigma
        reached = alpha_next * targets[:, k] + sigma_next * noise
        torch.testing.assert_close(reached, made.states[:, k + 1], rtol=0, atol=1e-4)


def test_targets_of_a_teacher_that_clips_are_within_its_range(pixels: Pipeline) -> None:
    """DDIM averages the estimates of its steps with positive weights that add up to one."""
    clip = 0.3
    teacher = replace(pixels, diffusion=pixels.diffusion.model_copy(update={"clip": clip}))
    made = drawn(teacher, calls=2, steps=6, high=3.0)
    targets = step_targets(made, [teacher.schedule.at(t) for t in made.levels])
    assert clip * (1 - 1e-3) < float(targets.abs().max()) < clip * (1 + 1e-4)
    assert task_of(teacher, made).pipeline(teacher.network).diffusion.clip == clip


def test_beyond_the_end_of_the_range_there_is_no_error() -> None:
    x0 = torch.tensor([[-1.5, -0.5, 1.5, 2.0, -3.0]], requires_grad=True)
    wanted = torch.tensor([[-1.0, -1.0, 1.0, 0.5, 1.0]])
    error = x0_error(x0, wanted, clip=1.0)
    assert error.item() == pytest.approx((0.25 + 2.25 + 16.0) / 5)
    error.sum().backward()
    assert [value != 0 for value in x0.grad[0].tolist()] == [False, True, False, True, True]
    plain = x0_error(x0.detach(), wanted, clip=None)
    assert plain.item() == pytest.approx(float((x0.detach() - wanted).square().mean()))


def test_a_small_error_counts_by_its_square_and_a_large_one_by_its_size() -> None:
    wanted = torch.zeros(3, 1)
    small, large = (x0_error(wanted + off, wanted, clip=None, huber=0.1) for off in (1e-3, 10.0))
    assert small[0].item() == pytest.approx(1e-6 / 0.2, rel=1e-3)
    assert large[0].item() == pytest.approx(9.9, rel=1e-3)


def test_pixels_learn_the_median_and_latents_the_mean(pixels: Pipeline, vector: Pipeline) -> None:
    """By default; and what is validated is what is trained."""

    def losses(teacher: Pipeline, **options: float) -> tuple[float, float]:
        task = task_of(teacher, made := drawn(teacher, n=12, calls=1, steps=4), **options)
        rows = torch.arange(len(made))
        with torch.no_grad():
            return float(task.loss(0, rows, rows)[0]), task.validate(task.network)["val_loss"]

    clips = replace(pixels, diffusion=pixels.diffusion.model_copy(update={"clip": 1.0}))
    squared, median = losses(clips, huber=0), losses(clips, huber=0.05)
    assert losses(clips) == median and losses(vector) == losses(vector, huber=0)
    assert squared[0] == pytest.approx(squared[1], rel=5e-3)
    assert median[0] == pytest.approx(median[1], rel=5e-3)
    assert abs(median[0] - squared[0]) > 1e-3
    with pytest.raises(ValueError, match=r"`huber` must be 0 or at least 0\.0001"):
        TrainStudent(huber=1e-25)


def test_pixels_of_digits_are_also_compared_by_a_network(pixels: Pipeline, vector: Pipeline) -> None:
    """The term is the distance of the estimates to where the teacher leads, in the loss and in val_loss."""
    teacher = ld.load("digits-pixels")
    made = drawn(teacher, n=16, calls=1, steps=8, high=1.0)
    task, plain = task_of(teacher, made), task_of(teacher, made, perceptual=0)
    assert (task.perceptual_fingerprint, plain.perceptual_fingerprint) == ("mnist", None)
    assert task_of(pixels, drawn(pixels, n=6)).perceptual_fingerprint is None  # 12 x 12 pixels
    found, without = (each.validate(each.network)["val_loss"] for each in (task, plain))
    assert (task.loss(0, rows := torch.arange(16), rows)[0]).item() == pytest.approx(found, rel=0.02)
    ends = task._ends(task.network, made)
    near = perceptual_loss(perceptual_network("mnist"), ends.clamp(-1, 1), made.states[:, -1].clamp(-1, 1))
    assert found - without == pytest.approx(PERCEPTUAL * float(near.mean()), rel=1e-3) and near.min() > 1e-4
    with pytest.raises(InputError, match="`perceptual`: needs a model of pixels, got 2 for one of latents"):
        task_of(vector, drawn(vector, n=6), perceptual=2)


def test_a_wrong_class_is_no_digit() -> None:
    """Pictures of the digits' shape whose labels the classifier does not share are compared by pixels alone."""
    test = load_dataset("mnist5k").test
    names = tuple("0123456789")
    assert are_digits(test, (1, 28, 28), names) and are_digits(Split(test.images), (1, 28, 28), None)
    assert not are_digits(Split(test.images, (test.labels + 1) % 10), (1, 28, 28), names)
    assert not are_digits(test, (3, 28, 28), names) and not are_digits(test, (1, 28, 28), ("cat", "dog"))


def test_trajectories_of_many_calls_contain_those_of_few(vector: Pipeline) -> None:
    many, few = drawn(vector, calls=4, steps=8), drawn(vector, calls=2, steps=8)
    part = many.of_calls(2)
    assert part.levels == few.levels and torch.equal(part.states, few.states)
    assert torch.equal(part.scales, few.scales) and torch.equal(part.conditioning, few.conditioning)


def task_of(teacher: Pipeline, made: Trajectories, **options: object) -> StudentTask:
    data = TrajectoryData(teacher, (1.0, float(made.scales.max())), "teacher", made, made)
    chosen = TrainStudent(calls=len(made.levels) - 1, **options)
    return StudentTask(chosen, data, student_network(teacher, seed=0), CPU)


def test_a_student_of_all_steps_is_its_teacher_from_the_start(teacher: Pipeline) -> None:
    """With a call for each step and without guidance there is nothing to learn; eta is left out."""
    teacher = replace(teacher, eta=0.7)
    task = task_of(teacher, drawn(teacher, calls=4, steps=4, high=1.0))
    found = task.validate(task.network)
    assert found["val_loss"] < 1e-8 and found["val_end"] < 1e-4
    student = task.pipeline(task.network.eval())
    labels = [k % len(teacher.classes) for k in range(5)]
    a, b = student.sample(5, label=labels), teacher.sample(5, label=labels, steps=4, eta=0)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)
    with pytest.raises(InputError, match="learned 1 to 1"):
        student.sample(2, label=0, guidance=2)


def test_samples_are_measured_against_the_teachers_while_a_student_trains(
    vector: Pipeline, tmp_path: Path
) -> None:
    """Of other noise than the teacher's; those of a student that is its teacher are as near as chance allows."""
    task = task_of(vector, drawn(vector, n=200, calls=4, steps=4, high=1.0), quick_samples=100)
    assert task.quick is not None
    grid = task.save_samples(task.network, tmp_path / "s.png")
    near = task.quick.measure(grid, planned=1e6, spent=0, last=True)
    assert near.values["quick_samples"] == 100 and "KD (" in near.text
    with torch.no_grad():
        for weight in task.network.parameters():
            weight.mul_(0.5)
    far = task.quick.measure(
        task.save_samples(task.network, tmp_path / "s.png"), planned=1e6, spent=0, last=True
    )
    assert abs(near.values["quick_kd"]) < 0.2 * far.values["quick_kd"], (near, far)
    for options, n in (({"quick_samples": 0}, 200), ({}, 3)):
        assert task_of(vector, drawn(vector, n=n), **options).quick is None


def test_a_student_learns(vector: Pipeline) -> None:
    made = drawn(vector, n=120, calls=1, steps=8)
    task = task_of(vector, made)
    before = task.validate(task.network)
    optimizer = torch.optim.Adam(task.network.parameters(), lr=3e-3)
    for step in range(150):
        positions = torch.arange(120 * step, 120 * (step + 1))
        optimizer.zero_grad()
        task.loss(step, positions, torch.arange(120))[0].backward()
        optimizer.step()
    after = task.validate(task.network)
    assert after["val_loss"] < 0.3 * before["val_loss"] and after["val_end"] < 0.6 * before["val_end"]
    # with one call the end is the estimate, and so its error
    assert after["val_end"] ** 2 == pytest.approx(after["val_loss"], rel=1e-3)


def test_guidance_is_an_input_of_one_call(vector: Pipeline) -> None:
    network, calls = student_network(vector, seed=0), []
    student = replace(vector, network=network, student=Student(calls=2, guidance_low=1, guidance_high=4))
    network.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((len(args[0]), kwargs["guidance"])), with_kwargs=True
    )
    student.sample(3, label=1, guidance=2.5)
    assert [n for n, _ in calls] == [3, 3] and all(bool((w == 2.5).all()) for _, w in calls)
    with torch.no_grad():
        network.condition.guidance.weight.normal_(generator=torch.Generator().manual_seed(0))
    weak, strong = (student.sample(3, label=1, guidance=w) for w in (1, 4))
    assert not torch.allclose(weak, strong, atol=1e-3)
    plain = student.sample(3)
    assert torch.equal(student.sample(3, label=1, guidance=0), plain)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("steps", 3),
        ("sampler", "dpm++"),
        ("eta", 0.5),
        ("spacing", "leading"),
        ("guidance", 9.0),
        ("guidance_rescale", 0.5),
    ],
)
def test_a_student_refuses_what_it_has_not_learned(vector: Pipeline, setting: str, value: object) -> None:
    student = replace(vector, network=student_network(vector, 0), student=Student(calls=2, guidance_high=4))
    more = {"guidance": 2.0} if setting == "guidance_rescale" else {}
    with pytest.raises(InputError, match=rf"`{setting}`: "):
        student.sample(2, label=0, **{setting: value, **more})
    assert len(student.sample(2, label=0, steps=2, guidance=4)) == 2


def test_levels_of_the_student_are_among_the_teachers(vector: Pipeline) -> None:
    coarse, fine = student_levels(vector, 2, 10)
    assert set(coarse) <= set(fine) and coarse == vector.plan(Sampling(steps=2))[1]
    for calls, steps in ((3, 10), (2, 22)):
        with pytest.raises(InputError, match="`teacher_steps`: "):
            student_levels(vector, calls, steps)


@pytest.fixture
def work(tmp_path: Path, tiny_denoiser_run: Path, tiny_vae_run: Path) -> Path:
    shutil.copytree(tiny_denoiser_run, tmp_path / "runs" / tiny_denoiser_run.name)
    return tmp_path


FEW = "--trajectories 16 --batch 4"
DISTILL = "distill --run runs/denoiser --calls 2 --teacher-steps 4 --trajectories 40 --batch 8"


def test_a_student_is_a_run_like_any_other(work: Path, cli: Callable) -> None:
    done = cli(f"{DISTILL} --steps 6 --name student --json", cwd=work)
    assert done.code == 0, done.err
    assert json.loads(done.out)["val_loss"] > 0
    assert (work / "runs" / "student" / "samples-00000006.png").is_file()
    index = locate(work / "runs" / "student").json("model_index.json")
    begun = {"calls": 2, "start": index["student"]["start"], "guidance_low": 1.0, "guidance_high": 3.0}
    assert index["student"] == begun | {"teacher": "denoiser"} and begun["start"] > 1
    drawn = cli("sample -n 3 --out a.npz --json", cwd=work)
    assert drawn.code == 0 and json.loads(drawn.out)["run"].startswith("runs/student/")
    assert json.loads(drawn.out)["settings"][0]["steps"] == 2
    refused = cli("sample --run runs/student -n 3 --steps 9 --out b.npz", cwd=work)
    assert refused.code == 1 and "--steps: this model is a student" in refused.err
    edited = cli("edit --run runs/student --input tiny.npz -n 1 --strength 0.5", cwd=work)
    assert edited.code == 1 and "is a student, which has learned few noise levels" in edited.err
    newest = cli("edit --input tiny.npz -n 1 --strength 0.5 --out e.png", cwd=work)
    assert "using runs/denoiser" in newest.err  # the student, which is newer, is passed over
    plan = json.loads(cli(f"{DISTILL} --dry-run --json", cwd=work).out)
    assert plan["kind"] == "student" and plan["network"]["guided"] and plan["data"]["train"] == 16
    saved = work / "saved"
    ld.load(work / "runs" / "student").save(saved)
    assert ld.load(saved).student == Student(**begun, teacher="denoiser")


def test_a_perceptual_loss_of_latents_is_refused_before_samples_are_drawn(work: Path, cli: Callable) -> None:
    refused = cli(f"{DISTILL} --perceptual 5 --trajectories-folder kept --name none", cwd=work)
    assert refused.code == 1 and "--perceptual: needs a model of pixels, got 5" in refused.err
    assert "trajectories for" not in refused.err and not (work / "kept").exists()


def test_a_student_of_as_many_calls_as_its_teacher_is_that_from_the_start(
    vector: Pipeline,
) -> None:
    """The guidance of each trajectory goes into the one call of the student that teaches."""
    teacher = replace(vector, network=student_network(vector, 0), student=Student(calls=4, guidance_high=3))
    with torch.no_grad():
        teacher.network.condition.guidance.weight.normal_(generator=torch.Generator().manual_seed(0))
    made = drawn(teacher, calls=4, steps=4, high=3.0)
    assert len(set(made.scales.tolist())) > 1
    task = task_of(teacher, made)
    found = task.validate(task.network)
    assert found["val_loss"] < 1e-8 and found["val_end"] < 1e-4
    step, levels = teacher.plan(Sampling())
    for k in (0, 5, 11, 23):
        denoise = teacher.denoiser(made.conditioning[k : k + 1], guidance=float(made.scales[k]))
        key = teacher.key(5 + k, 1)
        x = run(denoise, made.states[k : k + 1, 0], levels, step, key)
        torch.testing.assert_close(made.states[k : k + 1, -1], x, rtol=0, atol=1e-4)


def test_a_student_has_students_of_fewer_calls(work: Path, cli: Callable) -> None:
    """Progressive distillation: by default from as many steps as it has calls, within its guidance."""
    first = cli(f"{DISTILL} --steps 2 --calls 4 --guidance-high 2 --name first", cwd=work)
    assert first.code == 0, first.err
    words = "distill --run runs/first --calls 2 --trajectories 20 --batch 4 --steps 2 --name second"
    done = cli(words, cwd=work)
    assert done.code == 0, done.err
    student = ld.load(work / "runs" / "second").student
    assert student is not None
    assert (student.calls, student.teacher, student.guidance_high) == (2, "first", 2)
    assert "teacher_steps: 4" in (work / "runs" / "second" / "config.yaml").read_text()
    for more, said in (
        ("--calls 3", "--calls: expected a divisor of the teacher's, 4, got 3"),
        ("--guidance-high 3", "--guidance-high: the teacher is a student that has learned 1 to 2, got 3"),
        ("--teacher-steps 8", "--teacher-steps: the teacher is a student that draws in 4 calls, got 8"),
    ):
        refused = cli(words.replace("second", "third") + " " + more, cwd=work)
        assert refused.code == 1 and said in refused.err, refused.err
    newest = cli("distill --calls 2 --dry-run", cwd=work)
    assert "using runs/denoiser" in newest.err  # its own students are passed over
    for name, teacher in (("one", "second"), ("again", "one")):  # the last teacher draws in one call
        third = cli(f"distill --run runs/{teacher} --calls 1 --steps 2 {FEW} --name {name}", cwd=work)
        assert third.code == 0, third.err
    resumed = cli("distill --resume runs/again --steps 4", cwd=work)
    assert resumed.code == 0, resumed.err


def test_a_student_learns_the_guidance_of_its_teacher(work: Path, cli: Callable) -> None:
    low = cli(f"{DISTILL} --steps 2 --guidance-low 1.5 --guidance-high 2.5 --name low", cwd=work)
    assert low.code == 0, low.err
    done = cli(f"distill --run runs/low --calls 1 --steps 2 {FEW} --name lower", cwd=work)
    assert done.code == 0, done.err
    student = ld.load(work / "runs" / "lower").student
    assert student is not None and (student.guidance_low, student.guidance_high) == (1.5, 2.5)


def test_a_resumed_student_ends_with_the_same_bits(work: Path, cli: Callable) -> None:
    for words in (
        f"{DISTILL} --decay constant --steps 6 --name whole",
        f"{DISTILL} --decay constant --steps 3 --name parts",
        "distill --resume runs/parts --steps 6",
    ):
        done = cli(words, cwd=work)
        assert done.code == 0, done.err
    whole, parts = (
        load_file(
            work / "runs" / name / "checkpoint-00000006" / "denoiser" / "diffusion_pytorch_model.safetensors"
        )
        for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    again = cli("distill --resume runs/whole --steps 8", cwd=work)
    assert again.code == 0 and "8 steps" in again.out


def test_kept_trajectories_are_read_instead_of_drawn(
    work: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a student of fewer calls and to go on, with the same bits; those of another origin are refused."""
    kept = "--trajectories-folder kept --steps 3"
    for words in (f"{DISTILL} {kept} --name a", f"{DISTILL} --steps 3 --calls 1 --name b"):
        done = cli(words, cwd=work)
        assert done.code == 0, done.err

    def nothing(*values: object, **more: object) -> Trajectories:
        raise AssertionError("drawn again")

    monkeypatch.setattr("latentdiff.train.trajectories.draw_trajectories", nothing)
    for words in (f"{DISTILL} {kept} --calls 1 --name c", "distill --resume runs/a --steps 6"):
        done = cli(words, cwd=work)
        assert done.code == 0 and "trajectories of kept" in done.err, done.err
    file = "denoiser/diffusion_pytorch_model.safetensors"
    b, c = (load_file(work / "runs" / name / "checkpoint-00000003" / file) for name in "bc")
    assert b.keys() == c.keys() and all(torch.equal(b[name], c[name]) for name in b)
    for words, code, said in (
        ("--seed 1", 1, "kept: has trajectories of another seed"),
        ("--guidance-high 2", 1, "kept: has trajectories of another guidance"),
        ("--calls 4", 1, "at the levels of 2 calls, of which 4 are no part"),
        ("--trajectories-folder runs/a/checkpoint-00000003", 1, "found another checkpoint"),
        ("--trajectories-folder runs", 1, "runs: expected a new folder"),
    ):
        done = cli(f"{DISTILL} {kept} --name d {words}", cwd=work)
        assert (done.code, done.err.count("error: ")) == (code, 1) and said in done.err, done.err
    assert not (work / "runs" / "d").exists()


@pytest.mark.parametrize(
    ("change", "shape", "said"),
    [
        ({"calls": 0}, (3, 2, 4), "calls as a number from 1 to 1000"),
        ({"calls": 2}, (3, 2, 4), "expected float32 of shape ['n', 3, 4], found torch.float32 [3, 2, 4]"),
        ({"calls": "x"}, (3, 2, 4), "calls as a number from 1 to 1000"),
        ({"origin": 3}, (3, 2, 4), "origin as an object"),
        ({}, (), "expected float32 of shape"),
        ({}, (3, 2, 5), "expected float32 of shape"),
    ],
)
def test_a_folder_of_trajectories_is_checked(tmp_path: Path, change: dict, shape: tuple, said: str) -> None:
    made = Trajectories((9, 0), torch.randn(3, 2, 4), torch.zeros(3, dtype=torch.int64), torch.ones(3))
    folder = tmp_path / "kept"
    save_trajectories(folder, made, made.rows(slice(1)), {"seed": 0})
    train, val = load_states(folder, 1, {"seed": 0}, (4,))
    assert torch.equal(train, made.states) and len(val) == 1
    with writing(folder) as writer:
        for name in ("train", "val"):
            writer.tensors(f"{name}.safetensors", {"states": torch.zeros(shape)})
        index = {"_class_name": "Trajectories", "calls": 1, "origin": {"seed": 0}}
        writer.json("model_index.json", index | change)
    with pytest.raises(InputError, match=re.escape(said)):
        load_states(folder, 1, {"seed": 0}, (4,))


def test_without_classes_there_is_no_guidance_to_learn(
    tmp_path: Path, tiny_pixel_run: Path, cli: Callable
) -> None:
    shutil.copytree(tiny_pixel_run, tmp_path / "runs" / tiny_pixel_run.name)
    words = "distill --calls 1 --teacher-steps 4 --trajectories 16 --steps 2 --batch 4 --name student"
    done = cli(words, cwd=tmp_path)
    assert done.code == 0, done.err
    student = ld.load(tmp_path / "runs" / "student").student
    assert student is not None and student.teacher == tiny_pixel_run.name
    assert (student.calls, student.guidance_low, student.guidance_high) == (1, 1, 1)
    taught, learned = (
        ld.load(tmp_path / "runs" / name).diffusion for name in (tiny_pixel_run.name, "student")
    )
    assert (taught.prediction, learned.prediction) == ("eps", "v")  # an error of eps has no bound in x_0
    images = np.asarray(ld.load(tmp_path / "runs" / "student").sample(2))
    assert images.shape[0] == 2 and np.isfinite(images).all()


def test_a_model_of_texts_has_students(text_folder: Path, tmp_path: Path, cli: Callable) -> None:
    """Of the captions it was trained on; a tenth is the empty text."""
    shutil.copytree(text_folder / "runs" / "text", tmp_path / "runs" / "text")
    shutil.copy(text_folder / "captioned.npz", tmp_path)
    words = "distill --calls 2 --teacher-steps 4 --trajectories 16 --steps 2 --batch 4 --name student"
    done = cli(words, cwd=tmp_path)
    assert done.code == 0, done.err
    student = ld.load(tmp_path / "runs" / "student")
    assert student.tokenizer is not None and student.student is not None
    assert student.student.guidance_high == 3
    images = student.sample(2, label="a disc", guidance=2)
    assert images.shape[0] == 2 and bool(torch.isfinite(images).all())
    drawn = cli("sample --prompt 'a disc' -n 2 --out a.npz", cwd=tmp_path)
    assert drawn.code == 0, drawn.err
    resumed = cli("distill --resume runs/student --steps 4 --threads 1", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    words = f"distill --run runs/student --calls 1 --steps 2 {FEW} --name second"
    done = cli(words, cwd=tmp_path)  # its captions are those of its teacher's training
    assert done.code == 0, done.err
    resumed = cli("distill --resume runs/second --steps 4", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    shutil.rmtree(tmp_path / "runs" / "text")
    lost = cli(words.replace("second", "third"), cwd=tmp_path)
    assert lost.code == 1 and "expected its teacher, whose captions are needed" in lost.err, lost.err
