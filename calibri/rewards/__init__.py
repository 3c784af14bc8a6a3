"""Rewards and judges: functions of images and prompts, higher is better."""

from calibri.rewards.base import Reward, RewardInfo, known_rewards, load_reward, register_reward

__all__ = ["Reward", "RewardInfo", "known_rewards", "load_reward", "register_reward"]
