"""FaceFilter's networks: sizes against sums by hand, and the laws that serving relies on."""

import pytest
import torch

from train.facefilter.identity import build_face_identity, build_speech_identity
from train.facefilter.separator import Separator, build_audio_only, build_separator
from train.settings import HALO_FRAMES


def count_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def tiny_separator(**options):
    torch.manual_seed(0)
    network = Separator(**{"channels": 12, "features": 6, "encoder_blocks": 4, "mask_blocks": 15, **options})
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):  # so that evaluation mode is no identity
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, torch.nn.Conv1d):  # torch's own start lets fifteen blocks forget the face
            torch.nn.init.kaiming_normal_(module.weight)
    network.image_encoder[0][1].running_var.fill_(1e-3)  # the identity's 1024 values are small
    return network.eval()


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    magnitude = torch.rand(3, 257, 150, generator=generator)
    identity = torch.nn.functional.normalize(torch.randn(3, 1024, generator=generator), dim=1)
    return magnitude, identity


def block(inputs, outputs, kernel):
    """Weights of a convolution without bias and of its batch norm."""
    return inputs * outputs * kernel + 2 * outputs


def fc(inputs, outputs):
    """Weights of a linear layer with bias and of its batch norm."""
    return inputs * outputs + outputs + 2 * outputs


def test_paper_separator_has_the_parameters_of_table_1_summed_by_hand():
    by_hand = fc(1024, 1536) + fc(1536, 512)  # image encoder
    by_hand += block(257, 1536, 5) + 4 * block(1536, 1536, 5) + fc(1536, 512)  # speech encoder
    by_hand += 512 + 1  # attention
    by_hand += block(1024, 1536, 5) + 14 * block(1536, 1536, 5) + 1536 * 257 + 257  # mask estimator
    with torch.device("meta"):
        assert count_parameters(build_separator("paper")) == by_hand == 225_785_090


def test_attention_costs_one_weight_per_feature_and_a_bias():
    with torch.device("meta"):
        with_attention, without = build_separator("paper"), build_separator("paper", attention=False)
    assert count_parameters(with_attention) - count_parameters(without) == 513


def test_paper_identity_networks_have_the_parameters_of_vgg_m_summed_by_hand():
    def conv(inputs, outputs, kernel_area):
        return inputs * outputs * kernel_area + outputs + 2 * outputs

    head = fc(512, 512) + 512 * 1024 + 1024
    face = conv(3, 96, 49) + conv(96, 256, 25) + 3 * conv(256, 256, 9) + conv(256, 512, 36) + head
    speech = conv(1, 96, 35) + conv(96, 256, 25) + conv(256, 384, 9) + conv(384, 256, 9) + conv(256, 256, 9)
    speech += conv(256, 512, 4) + head
    assert count_parameters(build_face_identity("paper")) == face == 7_910_464
    assert count_parameters(build_speech_identity("paper")) == speech == 4_295_616


def test_compact_networks_fit_ten_megabytes_each():
    for network in (build_separator("compact"), build_face_identity("compact"), build_speech_identity("compact")):
        assert 4 * sum(tensor.numel() for tensor in network.state_dict().values()) < 10e6


@pytest.mark.parametrize("preset", ["paper", "compact"])
def test_identities_have_unit_length_for_any_picture_and_any_length_of_speech(preset):
    generator = torch.Generator().manual_seed(0)
    faces = torch.randint(0, 256, (2, 224, 224, 3), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        identity = build_face_identity(preset).eval()(faces)
        voices = [build_speech_identity(preset).eval()(torch.randn(2, 40, frames)) for frames in (100, 200)]
    assert identity.shape == voices[0].shape == voices[1].shape == (2, 1024)
    for values in (identity, *voices):
        torch.testing.assert_close(values.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    "options", [{}, {"separable": True}, {"pre_activation": True}, {"mask_residual": True, "input_compression": 0.3}]
)
def test_mask_and_attention_stay_between_zero_and_one_and_never_amplify(options, inputs):
    magnitude, identity = inputs
    network = tiny_separator(**options)
    with torch.no_grad():
        mask = network.masks(magnitude, identity.unsqueeze(1)).squeeze(1)
        separated, attention = network(magnitude, identity)
    assert mask.shape == separated.shape == magnitude.shape and attention.shape == (3, 150)
    assert mask.min() >= 0 and mask.max() <= 1 and mask.std() > 0
    assert attention.min() >= 0 and attention.max() <= 1
    assert (separated <= magnitude).all() and (separated >= 0).all()


def test_attention_off_equals_weights_all_one(inputs):
    attentive, plain = tiny_separator(), tiny_separator(attention=False)
    plain.load_state_dict({name: value for name, value in attentive.state_dict().items() if "attention" not in name})
    with torch.no_grad():
        assert (attentive(*inputs)[0] - plain(*inputs)[0]).abs().max() > 1e-3
        attentive.attention.weight.zero_()
        attentive.attention.bias.fill_(50.0)  # sigmoid(50) rounds to one
        torch.testing.assert_close(attentive(*inputs)[0], plain(*inputs)[0])
        assert (plain(*inputs)[1] == 1).all()


def test_a_frame_sees_forty_frames_to_either_side_and_no_further(inputs):
    magnitude = inputs[0][:1].clone().requires_grad_()
    separated, _ = tiny_separator()(magnitude, inputs[1][:1])
    seen = torch.autograd.grad(separated[0, :, 75].sum(), magnitude)[0].abs().sum(dim=(0, 1)).nonzero().flatten()
    assert (seen.min(), seen.max()) == (75 - HALO_FRAMES, 75 + HALO_FRAMES)


def test_a_chunk_with_halo_equals_the_whole_in_its_interior(inputs):
    network = tiny_separator()
    magnitude, identity = inputs
    with torch.no_grad():
        whole, attention = network(magnitude, identity)
        chunk, chunk_attention = network(magnitude[:, :, 20:140], identity)
    interior = slice(HALO_FRAMES, -HALO_FRAMES)
    torch.testing.assert_close(chunk[:, :, interior], whole[:, :, 20:140][:, :, interior], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(chunk_attention[:, interior], attention[:, 20:140][:, interior])


def test_an_item_of_a_batch_is_separated_as_if_alone(inputs):
    network = tiny_separator()
    magnitude, identity = inputs
    with torch.no_grad():
        together = network(magnitude, identity)[0]
        alone = torch.cat([network(magnitude[i : i + 1], identity[i : i + 1])[0] for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_the_face_changes_what_is_kept(inputs):
    magnitude, identity = inputs
    network = tiny_separator()
    with torch.no_grad():
        assert (network(magnitude, identity)[0] - network(magnitude, identity.roll(1, 0))[0]).abs().max() > 1e-3


def test_a_traced_separator_answers_at_other_lengths_and_batch_sizes(inputs):
    magnitude, identity = inputs
    network = tiny_separator(input_compression=0.3, mask_residual=True)
    traced = torch.jit.trace(network, (magnitude[:1, :, :60], identity[:1]))
    with torch.no_grad():
        for got, wanted in zip(traced(magnitude, identity), network(magnitude, identity), strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)


def test_masks_of_several_faces_are_those_of_each_alone(inputs):
    network = tiny_separator()
    magnitude, identity = inputs
    identities = torch.stack([identity, identity.roll(1, 0)], dim=1)  # (3, 2, 1024)
    with torch.no_grad():
        masks = network.masks(magnitude, identities)
        for person in range(2):
            alone, _ = network(magnitude, identities[:, person])
            torch.testing.assert_close(masks[:, person] * magnitude, alone, atol=1e-6, rtol=1e-5)


def test_paper_audio_only_separator_has_the_parameters_summed_by_hand():
    def conv_block(inputs, outputs):
        return inputs * outputs * 5 + 2 * outputs

    encoder = conv_block(257, 1536) + 4 * conv_block(1536, 1536) + fc(1536, 512)
    estimator = conv_block(512, 1536) + 14 * conv_block(1536, 1536) + 1536 * 514 + 514
    assert count_parameters(build_audio_only("paper")) == encoder + estimator == 219_881_986


def test_the_audio_only_separator_gives_two_voices_and_never_amplifies(inputs):
    network = build_audio_only("compact", channels=8, features=4, mask_blocks=2).eval()
    with torch.no_grad():
        voices = network(inputs[0])
    assert voices.shape == (3, 2, 257, 150)
    assert (voices >= 0).all() and (voices <= inputs[0].unsqueeze(1)).all()
    assert (voices[:, 0] - voices[:, 1]).abs().max() > 1e-3
