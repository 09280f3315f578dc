"""``from modelscope.outputs import OutputKeys``, with the module's foreign name."""

from kinescribe.compat.modelscope.call import OutputKeys as OutputKeys
