"""What people prefer: win rates with honest intervals, agreement, and Bradley–Terry strengths.

numpy and scipy only. Every function takes `Vote`s and answers with a frozen result or with `NoData`, which
says why there is nothing to tell. A rate of 50 % is only ever a rate that was measured.
"""

from calibri.preference.agreement import gold_accuracy, krippendorff_alpha, repeat_consistency, votes_alpha
from calibri.preference.bootstrap import two_way_interval
from calibri.preference.bradley_terry import Strength, Strengths, bradley_terry, find_groups
from calibri.preference.consensus import Consensus, consensus, inflation
from calibri.preference.correlation import Correlation, rank_correlation
from calibri.preference.information import Posterior, expected_information, fit_posterior, rank_doubt
from calibri.preference.power import (
    Design,
    Likeness,
    VotePlan,
    estimate_likeness,
    find_power,
    plan_votes,
)
from calibri.preference.prediction import count_undecided, predicted_share
from calibri.preference.raters import RaterReport, Thresholds, rater_reports
from calibri.preference.rates import (
    SignTest,
    Tally,
    left_rate,
    sign_test,
    strict_rate,
    tally,
    wilson,
    win_rate,
)
from calibri.preference.table import PairTable, pair_table
from calibri.preference.votes import ANSWERS, Answer, NoData, Rate, Vote, arms_of, between

__all__ = [
    "ANSWERS",
    "Answer",
    "Consensus",
    "Correlation",
    "Design",
    "Likeness",
    "NoData",
    "PairTable",
    "Posterior",
    "Rate",
    "RaterReport",
    "SignTest",
    "Strength",
    "Strengths",
    "Tally",
    "Thresholds",
    "Vote",
    "VotePlan",
    "arms_of",
    "between",
    "bradley_terry",
    "consensus",
    "count_undecided",
    "estimate_likeness",
    "expected_information",
    "find_groups",
    "find_power",
    "fit_posterior",
    "gold_accuracy",
    "inflation",
    "krippendorff_alpha",
    "left_rate",
    "pair_table",
    "plan_votes",
    "predicted_share",
    "rank_correlation",
    "rank_doubt",
    "rater_reports",
    "repeat_consistency",
    "sign_test",
    "strict_rate",
    "tally",
    "two_way_interval",
    "votes_alpha",
    "wilson",
    "win_rate",
]
