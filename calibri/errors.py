"""What can go wrong, in one family: every error says what was expected and what came."""


class CalibriError(Exception):
    """Base of all errors that a user can do something about."""


class LayoutError(CalibriError):
    """Scales and sites do not fit together."""


class ArtifactError(CalibriError):
    """A saved calibration is not valid."""


class BackboneError(CalibriError):
    """A backbone is unknown, unsupported or cannot be loaded."""


class RenderError(CalibriError):
    """A picture cannot be rendered as asked."""


class RewardError(CalibriError):
    """A reward is unknown, cannot be loaded or failed."""


class SearchError(CalibriError):
    """A search is set up wrongly or cannot go on."""


class JournalError(CalibriError):
    """A run folder cannot be read, written or trusted."""


class StudyError(CalibriError):
    """A preference study is set up wrongly or cannot go on."""
