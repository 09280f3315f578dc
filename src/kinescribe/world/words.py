"""The words of the caption grammar: tables of nouns, verbs and phrases, in the order of the attribute tables.

The first entry of a row is the plain one; a row's later entries are said now and then. Verbs are kept as
(base, third person, -ing form).
"""

Verb = tuple[str, str, str]

NOUNS: tuple[tuple[str, ...], ...] = (
    ("balloon", "party balloon", "toy balloon"),
    ("ball", "beach ball", "toy ball"),
    ("boat", "sailboat", "ship", "sailing boat"),
    ("fish", "tropical fish", "reef fish"),
    ("bird", "songbird", "sparrow", "little bird"),
    ("rocket", "spaceship", "rocket ship", "spacecraft"),
    ("car", "automobile", "toy car", "vehicle"),
    ("star", "paper star", "shining star"),
    ("heart", "love heart", "paper heart"),
    ("tree", "leafy tree", "oak tree", "round tree"),
    ("cat", "kitten", "kitty", "pussycat"),
    ("house", "cottage", "home", "cabin"),
    ("moon", "crescent", "crescent moon", "half moon"),
    ("butterfly", "moth", "paper butterfly"),
    ("flower", "blossom", "bloom"),
    ("umbrella", "parasol", "open umbrella"),
)
COLOURS: tuple[tuple[str, ...], ...] = (
    ("red", "scarlet", "crimson", "bright red"),
    ("orange", "bright orange"),
    ("yellow", "golden", "bright yellow"),
    ("green", "leaf green", "bright green"),
    ("teal", "turquoise", "cyan"),
    ("blue", "royal blue", "bright blue"),
    ("purple", "violet"),
    ("pink", "rose", "light pink"),
    ("white", "pure white"),
    ("black", "jet black"),
)
SIZES: tuple[tuple[str, ...], ...] = (
    ("small", "little", "tiny"),
    ("medium", "middle sized", "medium sized"),
    ("large", "big", "huge", "giant"),
)
SCENES: tuple[tuple[str, ...], ...] = (
    ("at sea", "over the sea", "on the sea", "on the ocean", "above the waves", "by the sea", "on the water",
     "over the ocean", "at the seaside"),
    ("in the grass", "over the grass", "in a meadow", "over green hills", "in a field", "on the lawn",
     "in the park", "in the countryside", "on a hill"),
    ("in the desert", "over the desert", "among the dunes", "over the sand dunes", "among cacti", "on the sand",
     "in a dry desert"),
    ("in the snow", "on the snow", "over the snow", "over snowy hills", "in winter", "in a snowy landscape",
     "among snowy firs"),
    ("in the mountains", "over the mountains", "in front of the mountains", "among high peaks",
     "in a mountain valley", "below the peaks"),
    ("in the city", "over the city", "in town", "in front of tall buildings", "on the street", "downtown",
     "among skyscrapers", "in a city street"),
    ("underwater", "under water", "under the sea", "below the waves", "at the bottom of the sea",
     "among seaweed", "deep in the ocean", "beneath the sea"),
    ("in space", "in outer space", "among the planets", "above a planet", "in the cosmos", "far from earth",
     "in the galaxy"),
)  # fmt: skip
THROUGH: tuple[tuple[str, ...], ...] = (
    ("across the sea", "over the waves"),
    ("across the grass", "through the meadow"),
    ("through the desert", "across the desert"),
    ("through the snow", "across the snow"),
    ("through the mountains", "past the mountains"),
    ("through the city", "through the streets", "along the street"),
    ("through the water", "under the water"),
    ("through space", "past a planet"),
)
"""More ways to name a scene when the subject travels."""

TIMES: tuple[tuple[str, ...], ...] = (
    ("during the day", "in daylight", "on a sunny day", "by day", "at noon", "in the morning",
     "in the sunshine", "in the afternoon", "under a bright sky"),
    ("at sunset", "at dusk", "in the evening", "in the evening light", "at sundown", "as the sun sets",
     "in the golden hour", "in the twilight"),
    ("at night", "under the stars", "by night", "in the dark", "in the moonlight", "at midnight",
     "on a starry night", "under the night sky"),
)  # fmt: skip
CAMERAS: tuple[tuple[str, ...], ...] = (
    ("the camera is still", "the camera does not move", "static camera", "fixed camera"),
    ("the camera pans left", "the camera pans to the left", "the camera moves to the left", "panning left"),
    (
        "the camera pans right",
        "the camera pans to the right",
        "the camera moves to the right",
        "panning right",
    ),
    ("the camera zooms in", "the camera moves closer", "slow zoom in", "zooming in"),
    ("the camera zooms out", "the camera pulls back", "the camera moves away", "zooming out"),
)
CAMERA_ON: tuple[tuple[str, ...], ...] = (
    ("static shot of", "still shot of"),
    ("the camera pans left past", "panning left over"),
    ("the camera pans right past", "panning right over"),
    ("the camera zooms in on", "zooming in on", "the camera moves closer to"),
    ("the camera zooms out from", "zooming out from", "the camera pulls back from"),
)
"""Camera phrases that begin a caption, the subject following."""

OPENINGS: tuple[str, ...] = (
    "a video of", "a clip of", "an animation of", "a film of", "a paper cut video of", "a cartoon of",
)  # fmt: skip
WATCH: tuple[str, ...] = ("watch", "see")
BESIDE: tuple[str, ...] = ("and", "and", "and", "next to", "beside", "together with")

_MOVE, _GO, _FLOAT = ("move", "moves", "moving"), ("go", "goes", "going"), ("float", "floats", "floating")
_DRIFT, _GLIDE = ("drift", "drifts", "drifting"), ("glide", "glides", "gliding")
_FLY, _SAIL, _SWIM = ("fly", "flies", "flying"), ("sail", "sails", "sailing"), ("swim", "swims", "swimming")
_DRIVE, _ROLL, _SLIDE = (
    ("drive", "drives", "driving"),
    ("roll", "rolls", "rolling"),
    ("slide", "slides", "sliding"),
)
_WALK, _RUN = ("walk", "walks", "walking"), ("run", "runs", "running")
_FLUTTER, _SOAR = ("flutter", "flutters", "fluttering"), ("soar", "soars", "soaring")
_RACE, _TRAVEL = ("race", "races", "racing"), ("travel", "travels", "travelling")
_GET, _BECOME = ("get", "gets", "getting"), ("become", "becomes", "becoming")
_STAND, _SIT, _REST = (
    ("stand", "stands", "standing"),
    ("sit", "sits", "sitting"),
    ("rest", "rests", "resting"),
)
_HOVER, _STAY, _HANG = (
    ("hover", "hovers", "hovering"),
    ("stay", "stays", "staying"),
    ("hang", "hangs", "hanging"),
)

TRAVELS: tuple[Verb, ...] = (_MOVE, _GO, _TRAVEL, _GLIDE, _DRIFT)
"""Verbs of way that suit every subject, alone or in pairs."""

OWN_TRAVELS: tuple[tuple[Verb, ...], ...] = (
    (_FLOAT, _DRIFT, _FLY), (_ROLL, _FLY), (_SAIL, _FLOAT), (_SWIM, _SWIM), (_FLY, _FLUTTER, _SOAR),
    (_FLY, _RACE, _SOAR), (_DRIVE, _RACE, _ROLL), (_FLOAT, _FLY), (_FLOAT, _DRIFT), (_SLIDE, _MOVE),
    (_WALK, _RUN), (_SLIDE, _MOVE), (_FLOAT, _SAIL), (_FLY, _FLUTTER), (_FLOAT, _SLIDE), (_FLOAT, _FLY),
)  # fmt: skip
"""Verbs of way by subject."""

OWN_RESTS: tuple[tuple[Verb, ...], ...] = (
    (_HOVER, _HANG), (_REST, _STAY), (_REST, _STAY), (_HOVER, _REST), (_HOVER, _REST), (_STAND, _HOVER),
    (_STAND, _REST), (_HANG, _HOVER), (_HANG, _HOVER), (_STAND, _STAND), (_SIT, _SIT), (_STAND, _STAND),
    (_HANG, _HOVER), (_REST, _HOVER), (_STAND, _STAND), (_STAND, _HOVER),
)  # fmt: skip
"""Verbs of rest by subject."""

WAYS: dict[str, tuple[str, ...]] = {
    "left": ("to the left", "left", "towards the left", "from right to left", "leftwards"),
    "right": ("to the right", "right", "towards the right", "from left to right", "rightwards"),
    "rising": ("up", "upwards", "higher and higher", "up into the air", "up slowly"),
    "falling": ("down", "downwards", "lower and lower", "down slowly"),
    "circling": ("in circles", "in a circle", "around in circles"),
    "swaying": ("from side to side", "back and forth", "left and right"),
}
"""What follows a verb of way."""

ACTS: dict[str, tuple[tuple[Verb, tuple[str, ...]], ...]] = {
    "left": (),
    "right": (),
    "rising": (
        (("rise", "rises", "rising"), ("", "", "slowly", "into the air", "into the sky")),
        (("climb", "climbs", "climbing"), ("", "higher", "into the sky")),
        (("ascend", "ascends", "ascending"), ("",)),
    ),
    "falling": (
        (("fall", "falls", "falling"), ("", "", "down", "from the sky")),
        (("drop", "drops", "dropping"), ("", "down")),
        (("sink", "sinks", "sinking"), ("", "down", "slowly")),
        (("descend", "descends", "descending"), ("",)),
    ),
    "bouncing": (
        (("bounce", "bounces", "bouncing"), ("", "", "up and down", "again and again", "on the ground")),
        (("hop", "hops", "hopping"), ("", "up and down")),
        (("jump", "jumps", "jumping"), ("", "up and down")),
    ),
    "spinning": (
        (("spin", "spins", "spinning"), ("", "", "around", "in place", "like a wheel")),
        (("rotate", "rotates", "rotating"), ("", "in place")),
        (("turn", "turns", "turning"), ("around", "over and over")),
        (("twirl", "twirls", "twirling"), ("", "around")),
        (("whirl", "whirls", "whirling"), ("", "around")),
    ),
    "growing": (
        (("grow", "grows", "growing"), ("", "", "bigger", "larger", "in size")),
        (_GET, ("bigger", "larger", "bigger and bigger")),
        (_BECOME, ("bigger", "larger")),
        (("expand", "expands", "expanding"), ("",)),
        (("swell", "swells", "swelling"), ("", "up")),
    ),
    "shrinking": (
        (("shrink", "shrinks", "shrinking"), ("", "", "in size", "away")),
        (_GET, ("smaller", "smaller and smaller")),
        (_BECOME, ("smaller", "tiny")),
        (("dwindle", "dwindles", "dwindling"), ("",)),
    ),
    "circling": (
        (("circle", "circles", "circling"), ("", "", "around")),
        (("loop", "loops", "looping"), ("", "around")),
        (("orbit", "orbits", "orbiting"), ("",)),
    ),
    "swaying": (
        (("sway", "sways", "swaying"), ("", "", "gently", "from side to side", "back and forth")),
        (("swing", "swings", "swinging"), ("", "from side to side", "back and forth", "like a pendulum")),
        (("rock", "rocks", "rocking"), ("from side to side", "back and forth")),
    ),
    "still": (
        (_STAND, ("still", "motionless")),
        (_STAY, ("still", "in place", "motionless")),
        (_REST, ("", "without moving")),
        (("wait", "waits", "waiting"), ("", "without moving")),
    ),
}
"""Verbs that say a motion by themselves, with what may follow."""

PLAIN_MOTIONS: tuple[str, ...] = (
    "moving to the left", "moving to the right", "rising", "falling", "bouncing", "spinning",
    "growing", "shrinking", "moving in circles", "swaying from side to side", "standing still",
)  # fmt: skip
FRAME_WORDS: tuple[str, ...] = ("a", "an", "the", "one", "is", "are", "while", "there")
"""Words that only the sentence patterns say."""
