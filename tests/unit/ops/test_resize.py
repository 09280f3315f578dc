import torch

from kinescribe.ops.resize import squashed


def test_frames_are_squashed_whole_into_the_range_of_the_autoencoder() -> None:
    frames = torch.zeros(2, 6, 10, 3, dtype=torch.uint8)
    frames[:, :, 5:] = 255
    pixels = squashed(frames, 20, 4)
    assert pixels.shape == (2, 3, 4, 20) and pixels.dtype == torch.float32
    assert (pixels[..., :8] == -1).all() and (pixels[..., 12:] == 1).all()


def test_strict_samples_four_pixels_where_the_default_counts_all() -> None:
    board = (torch.arange(64) % 4 < 1)[:, None, None].expand(64, 64, 3).to(torch.uint8) * 255
    plain, strict = (squashed(board[None], 16, 16, strict=flag)[0, 0, 2:-2] for flag in (False, True))
    assert (plain - -0.5).abs().max() < 0.06 and (strict - -1).abs().max() < 1e-6


def test_enlarging_is_the_same_in_both_ways() -> None:
    frames = torch.randint(0, 256, (2, 9, 13, 3), dtype=torch.uint8)
    plain, strict = (squashed(frames, 64, 48, strict=flag) for flag in (False, True))
    assert (plain - strict).abs().max() < 1e-5
