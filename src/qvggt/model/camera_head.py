"""Camera head: camera tokens to pose encodings, refined iteratively."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt.model.config import VGGTConfig
from qvggt.model.layers import Block, Mlp

POSE_DIM = 9
"""Translation (3), quaternion xyzw (4), vertical and horizontal field of view."""


class CameraHead(nn.Module):
    """Predict the cameras of a scene from the camera tokens of its frames."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        dim = 2 * config.embed_dim
        self.token_norm = nn.LayerNorm(dim, eps=1e-5)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_DIM))
        self.embed_pose = nn.Linear(POSE_DIM, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.trunk = nn.ModuleList(Block(dim, config.camera_heads) for _ in range(config.camera_trunk_depth))
        self.trunk_norm = nn.LayerNorm(dim, eps=1e-5)
        self.pose_branch = Mlp(dim, dim // 2, POSE_DIM)
        self.register_parameter("compensation", None)
        self.compensation: nn.Parameter | None  # [1, 1, 2C], an additional token that some quantized models have
        self.differentiable_iterations = False  # published training stops gradients between iterations

    def forward(self, camera_tokens: Tensor, iterations: int = 4) -> Tensor:
        """Map camera tokens [B, S, 2C] to the pose encodings after each iteration [iterations, B, S, 9].

        A compensation token, if there is one, is processed as one more frame, whose pose encoding is dropped.
        """
        frames = camera_tokens.shape[1]
        if self.compensation is not None:
            extra = self.compensation.to(camera_tokens.dtype).expand(camera_tokens.shape[0], -1, -1)  # [B, 1, 2C]
            camera_tokens = torch.cat((camera_tokens, extra), 1)  # [B, S+1, 2C]
        tokens = self.token_norm(camera_tokens)  # [B, S, 2C]
        normalized = F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)  # [B, S, 2C]
        given = self.empty_pose_tokens.expand(*tokens.shape[:2], -1)  # [B, S, 9], input of the next iteration
        pose = torch.zeros_like(given)  # [B, S, 9], before activation
        poses = []
        for _ in range(iterations):
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(given)).chunk(3, -1)  # [B, S, 2C] each
            x = gate * (normalized * (1 + scale) + shift) + tokens  # [B, S, 2C]
            for block in self.trunk:
                x = block(x)  # [B, S, 2C]
            pose = pose + self.pose_branch(self.trunk_norm(x))  # [B, S, 9]
            given = pose if self.differentiable_iterations else pose.detach()
            poses.append(torch.cat((pose[..., :7], F.relu(pose[..., 7:])), -1))  # [B, S, 9]
        return torch.stack(poses)[:, :, :frames]  # [iterations, B, S, 9]
