"""Examples of the verbs and words whose own description has none; each is parsed by a test."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "avedge export": (
        "avedge export                                   a new version of every model, proven equal to torch",
        "avedge export --precision fp16 --report parity.json",
        "avedge export --target tensorrt                 engines too, on the GPU that will serve",
    ),
    "avedge perf": (
        "avedge perf sweep                               latency and throughput of every ensemble",
        "avedge perf report                              the page of all committed results",
    ),
    "avedge perf sweep": ("avedge perf sweep",),
    "avedge perf tune": ("avedge perf tune",),
    "avedge perf limit": ("avedge perf limit",),
    "avedge perf peers": ("avedge perf peers",),
    "avedge perf dsp": ("avedge perf dsp",),
    "avedge perf roofline": ("avedge perf roofline",),
    "avedge perf scale": ("avedge perf scale",),
    "avedge perf rate": ("avedge perf rate",),
    "avedge perf runtimes": ("avedge perf runtimes",),
    "avedge perf accuracy": ("avedge perf accuracy",),
    "avedge perf report": ("avedge perf report",),
    "avedge synthesize": ("avedge synthesize talkers", "avedge synthesize scenes"),
    "avedge synthesize talkers": (
        "avedge synthesize talkers                       700 talkers in data/talkers",
        "avedge synthesize talkers --talkers 20 --out data/few",
    ),
    "avedge synthesize scenes": (
        "avedge synthesize scenes                        2000 scenes in data/scenes",
        "avedge synthesize scenes --scenes 50 --people 0 --out data/empty",
    ),
    "avedge prepare": (
        "avedge prepare voxceleb2 --root VoxCeleb2",
        "avedge prepare librispeech --root LibriSpeech",
    ),
    "avedge prepare voxceleb2": ("avedge prepare voxceleb2 --root VoxCeleb2 --out data/voxceleb2",),
    "avedge prepare librispeech": ("avedge prepare librispeech --root LibriSpeech --out data/librispeech",),
    "avedge prepare ambience": (
        "avedge prepare ambience --pictures ShanghaiTech/part_A --ambient ambient --speech speech --out data/ambience",
    ),
    "avedge mix": (
        "avedge mix --data data/talkers",
        "avedge mix --data data/voxceleb2 --per-subset 100 --sir-range-db 5",
    ),
    "avedge train identity": (
        "avedge train identity --config train/configs/identity_compact.yaml",
        "avedge train identity --config train/configs/identity_compact.yaml --resume",
    ),
    "avedge train facefilter": (
        "avedge train facefilter --config train/configs/facefilter_compact.yaml",
        "avedge train facefilter --config train/configs/facefilter_compact.yaml --resume",
    ),
    "avedge train crowd": (
        "avedge train crowd --config train/configs/crowd_v_compact.yaml",
        "avedge train crowd --config train/configs/crowd_v_compact.yaml -- --fit.steps=10",
    ),
    "avedge evaluate facefilter": (
        "avedge evaluate facefilter --data data/talkers",
        "avedge evaluate facefilter --data data/talkers --through-server --json",
    ),
    "avedge evaluate identity": ("avedge evaluate identity --data data/talkers",),
    "avedge evaluate crowd": (
        "avedge evaluate crowd --data data/ShanghaiTech/part_A",
        "avedge evaluate crowd --model cc-av --setting occlusion_0.5 --json",
    ),
}
