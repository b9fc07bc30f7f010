"""CelebAMask-HQ is read as it is published, and whatever is wrong with it is named."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cavalcade.data.celeba_mask import CelebAMaskHQ
from cavalcade.data.faces import Faces
from cavalcade.errors import InputError
from celeba_folder import FIRST, write_celeba, write_lines

PARTS = ["mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"]
SIDES = ["l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear"]
CONCEPTS = ["skin", "nose", "eye_g", *SIDES, *PARTS, "background"]
MERGED = ["skin", "nose", "eye_g", "eye", "brow", "ear", *PARTS, "background"]
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_celeba(tmp_path_factory.mktemp("celeba"))


@pytest.fixture
def root(written, tmp_path):
    """A copy to change."""
    return shutil.copytree(written, tmp_path / "CelebAMask-HQ")


def opened(root, split="train", **settings):
    return CelebAMaskHQ(root=str(root), **settings).open(split)


def part_file(root, i, part):
    return root / f"CelebAMask-HQ-mask-anno/{i // 2000}/{i:05d}_{part}.png"


def put(path, values, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).convert(mode).save(path)


def at(dataset, i):
    return dataset[dataset.ids.index(str(i))]


def masks_of(dataset, i):
    sample = at(dataset, i)
    return dict(zip(dataset.concepts, sample.masks, strict=True))


def change_line(path, number, line):
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [] if line is None else [line]
    write_lines(path, lines)


def refused(message, root, split="train", **settings):
    """Opening and reading a split fails with one sentence that holds these words."""
    with pytest.raises(InputError, match=message) as caught:
        list(opened(root, split, **settings))
    assert "\n" not in str(caught.value)


def test_splits_are_those_of_celeba(written):
    counts = (12, 4, 6)
    ids = {split: opened(written, split).ids for split in ("train", "val", "test")}
    assert tuple(map(len, ids.values())) == counts
    starts = np.cumsum((FIRST, *counts))
    for own, start, stop in zip(ids.values(), starts, starts[1:], strict=False):
        assert set(own) == {str(i) for i in range(start, stop)}


def test_concepts_are_the_parts_and_the_background(written):
    assert list(opened(written).concepts) == CONCEPTS
    assert list(opened(written, merge_sides=True).concepts) == MERGED


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_sample_is_the_face_that_was_written(written, split):
    """In both folders of masks, at half the size of the image."""
    faces = Faces(num_images={"train": 12, "val": 4, "test": 6}, size=128).open(split)
    dataset = opened(written, split)
    first = min(map(int, dataset.ids))
    for k in (0, len(faces) - 1):
        sample, face = at(dataset, first + k), faces[k]
        assert sample.image.shape == (3, 128, 128)
        assert (sample.image.int() - face.image.int()).abs().float().mean() < 8
        masks = dict(zip(CONCEPTS, sample.masks, strict=True))
        truth = dict(zip(faces.concepts, face.masks[:, ::2, ::2], strict=True))
        assert truth["skin"].any()
        for part in ("skin", "nose", "mouth", "hair"):
            assert torch.equal(masks[part], truth[part])
        assert torch.equal(masks["cloth"], truth["clothes"])
        assert torch.equal(masks["l_eye"] | masks["r_eye"], truth["eyes"])
        assert torch.equal(masks["background"], ~truth_of_any(truth))
        assert not masks["hat"].any()


def truth_of_any(truth):
    return torch.stack(list(truth.values())).any(0)


def test_everything_is_labelled_by_one_map(written):
    _, labelled = opened(written).labels(0)
    assert labelled.shape == (19, 64, 64)
    assert labelled.all()
    assert labelled.stride(0) == 0


def test_left_and_right_can_be_merged(written):
    apart = masks_of(opened(written), FIRST)
    merged = masks_of(opened(written, merge_sides=True), FIRST)
    assert apart["l_eye"].any()
    assert apart["r_eye"].any()
    for part in ("eye", "brow", "ear"):
        assert torch.equal(merged[part], apart[f"l_{part}"] | apart[f"r_{part}"])
    for part in set(CONCEPTS) & set(MERGED):
        assert torch.equal(merged[part], apart[part])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P", "LA"])
def test_a_mask_is_where_a_picture_is_not_black(root, mode):
    mask = np.zeros((64, 64), bool)
    mask[3:9, 50:] = True
    put(part_file(root, FIRST, "hat"), 255 * mask, mode)
    assert np.array_equal(masks_of(opened(root), FIRST)["hat"], mask)


def test_a_mask_may_be_faint(root):
    put(part_file(root, FIRST, "hat"), np.eye(64))
    assert np.array_equal(masks_of(opened(root), FIRST)["hat"], np.eye(64))


def test_parts_may_overlap_and_are_no_background(root):
    put(part_file(root, FIRST, "hat"), np.full((64, 64), 255))
    masks = masks_of(opened(root), FIRST)
    assert masks["hat"].all()
    assert masks["skin"].any()
    assert not masks["background"].any()


def test_a_mask_of_another_image_is_left_alone(root):
    """The second folder starts at image 2000."""
    put(part_file(root, 2000, "hat"), np.full((64, 64), 255))
    dataset = opened(root)
    assert masks_of(dataset, 2000)["hat"].all()
    assert not masks_of(dataset, 1999)["hat"].any()


# Groups


def test_a_group_is_a_subject(written):
    dataset = opened(written)
    assert dataset.groups == tuple(f"{k // 2}" for k in range(12))
    assert dataset.ids[:2] == (str(FIRST), str(FIRST + 1))


def test_without_identities_each_image_is_a_group(root):
    (root / "identity_CelebA.txt").unlink()
    dataset = opened(root)
    assert dataset.groups == dataset.ids


def test_groups_that_the_user_names_go_first(root):
    dataset = opened(root, group_pattern=r"^(\d\d\d)")
    assert set(dataset.groups) == {"199", "200"}
    table = root / "groups.csv"
    table.write_text("id,group\n" + "".join(f"{i},{i % 2}\n" for i in range(FIRST, FIRST + 12)))
    assert opened(root, groups_csv=str(table)).groups == ("0",) * 6 + ("1",) * 6


# What is read


def test_nothing_is_read_before_it_is_asked_for(root):
    for path in [*root.glob("*/*.jpg"), *root.glob("*/*/*.png")]:
        path.write_bytes(b"")
    assert len(opened(root)) == 12


def test_only_chosen_concepts_are_decoded(root):
    whole = masks_of(opened(root, concepts=["hair", "background"]), FIRST)
    part_file(root, FIRST, "skin").write_bytes(b"")
    chosen = opened(root, concepts=["hair"])
    assert chosen.concepts == ("hair",)
    assert torch.equal(masks_of(chosen, FIRST)["hair"], whole["hair"])
    refused("skin.png cannot be read", root, concepts=["background"])


def test_an_image_without_the_chosen_parts_has_the_size_of_its_other_masks(root):
    masks, labelled = opened(root, concepts=["hat", "ear_r"]).labels(0)
    assert masks.shape == (2, 64, 64)
    assert not masks.any()
    assert labelled.all()


# What is missing or wrong


@pytest.mark.parametrize("folder", ["CelebA-HQ-img", "CelebAMask-HQ-mask-anno"])
def test_a_missing_folder_is_named(root, folder):
    shutil.rmtree(root / folder)
    refused(f"{folder} is no folder; data.root must be the folder CelebAMask-HQ", root)


def test_a_missing_partition_is_named_and_where_it_is(root):
    (root / "list_eval_partition.txt").unlink()
    refused("list_eval_partition.txt is missing; get it from CelebA .* in the folder Eval", root)


def test_a_missing_mapping_is_named(root):
    (root / MAPPING).unlink()
    refused(f"{MAPPING} is missing; .* unpack the archive of CelebAMask-HQ again", root)


def test_a_list_that_is_no_text_is_named(root):
    (root / "list_eval_partition.txt").write_bytes(b"\xff\xfe\x00")
    refused("list_eval_partition.txt cannot be read .*; get it from CelebA", root)


@pytest.mark.parametrize("line", ["0 119613 119614.jpg", "idx,orig_idx,orig_file", ""])
def test_a_mapping_with_another_header_is_named(root, line):
    change_line(root / MAPPING, 1, line)
    refused(f"{MAPPING} must start with the line 'idx orig_idx orig_file'", root)


@pytest.mark.parametrize("line", ["one 2 3.jpg", "2 3.jpg", "", "-1 2 3.jpg", "01990 2 3.jpg"])
def test_a_bad_line_of_the_mapping_is_named(root, line):
    change_line(root / MAPPING, 5, line)
    refused(f"{MAPPING}, line 5: '{line}' is not the number of an image", root)


def test_an_image_that_is_mapped_twice_is_named(root):
    change_line(root / MAPPING, 5, f"{FIRST} 1 000002.jpg")
    refused(f"line 5: '{FIRST} 1 000002.jpg' is not the number of an image, each once", root)


@pytest.mark.parametrize("name", ["list_eval_partition.txt", "identity_CelebA.txt"])
@pytest.mark.parametrize("line", ["000001.jpg", "000001.jpg,0", "000001.jpg one", "", "a b 0"])
def test_a_bad_line_of_a_list_of_celeba_is_named(root, name, line):
    change_line(root / name, 3, line)
    refused(f"{name}, line 3: '{line}' is not a file, each once, and a whole number", root)


@pytest.mark.parametrize("name", ["list_eval_partition.txt", "identity_CelebA.txt"])
def test_an_image_that_a_list_names_twice_is_named(root, name):
    """One of two lines would decide on its split."""
    line = (root / name).read_text(encoding="utf-8").splitlines()[0]
    change_line(root / name, 3, line)
    refused(f"{name}, line 3: '{line}' is not a file, each once, and a whole number", root)


@pytest.mark.parametrize("name", ["list_eval_partition.txt", "identity_CelebA.txt"])
def test_an_image_that_a_list_does_not_name_is_named(root, name):
    change_line(root / name, 1, None)
    refused(f"{name} does not name '{3 * FIRST + 1:06d}.jpg', which {MAPPING} refers to", root)


def test_a_split_that_celeba_does_not_have_is_named(root):
    change_line(root / "list_eval_partition.txt", 1, f"{3 * FIRST + 1:06d}.jpg 3")
    refused(r"list_eval_partition.txt puts \d+.jpg into '3'; there are 0 \(train\)", root)


def test_an_empty_split_is_named(tmp_path):
    write_celeba(tmp_path, {"train": 2})
    refused(f"list_eval_partition.txt puts no image of {MAPPING} into test", tmp_path, "test")


def test_a_missing_image_is_named(root):
    (root / f"CelebA-HQ-img/{FIRST + 3}.jpg").unlink()
    refused(f"{MAPPING} names the image .*{FIRST + 3}.jpg, which is not there; unpack", root)


def test_an_unreadable_image_is_named(root):
    (root / f"CelebA-HQ-img/{FIRST + 3}.jpg").write_bytes(b"no picture")
    refused(f"{FIRST + 3}.jpg cannot be read as an image", root)


def test_an_image_without_any_mask_is_named(root):
    """Else a folder that was not unpacked would read as faces without parts."""
    shutil.rmtree(root / "CelebAMask-HQ-mask-anno/1")
    refused("image .*2000.jpg has no mask .*mask-anno/1/02000_<part>.png; unpack", root)


def test_masks_of_different_sizes_are_named(root):
    put(part_file(root, FIRST, "hair"), np.zeros((64, 32)))
    refused("_hair.png is 32x64 pixels but .*_skin.png is 64x64 pixels; give all masks", root)


def test_concepts_that_are_merged_away_are_named(written):
    refused("'l_eye', which no concept", written, concepts=["l_eye"], merge_sides=True)
