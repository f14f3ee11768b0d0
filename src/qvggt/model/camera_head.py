"""Camera tokens to pose encodings, by four rounds of refinement."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt.model.config import VGGTConfig
from qvggt.model.layers import Block, Mlp

POSE_DIM = 9
"""Translation (3), quaternion xyzw (4), vertical and horizontal field of view."""


class CameraHead(nn.Module):
    """Predict every frame's camera from the camera tokens of a scene."""

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
        self.compensation: nn.Parameter | None  # [1, 1, 2C], one token more for a quantized model's head; see below

    def forward(self, camera_tokens: Tensor, iterations: int = 4) -> Tensor:
        """Map camera tokens [B, S, 2C] to pose encodings [iterations, B, S, 9], the last one being the answer.

        A compensation token, where there is one, takes part beside the frames' tokens; its own answer is dropped.
        """
        frames = camera_tokens.shape[1]
        if self.compensation is not None:
            extra = self.compensation.to(camera_tokens.dtype).expand(camera_tokens.shape[0], -1, -1)
            camera_tokens = torch.cat((camera_tokens, extra), 1)  # [B, S+1, 2C]
        tokens = self.token_norm(camera_tokens)
        normalised = F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
        given = self.empty_pose_tokens.expand(*tokens.shape[:2], -1)  # [B, S, 9], what the next round refines
        total = torch.zeros_like(given)
        poses = []
        for _ in range(iterations):
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(given)).chunk(3, -1)  # [B, S, 2C] each
            x = gate * (normalised * (1 + scale) + shift) + tokens
            for block in self.trunk:
                x = block(x)
            total = total + self.pose_branch(self.trunk_norm(x))  # [B, S, 9]
            given = total.detach()
            poses.append(torch.cat((total[..., :7], F.relu(total[..., 7:])), -1))
        return torch.stack(poses)[:, :, :frames]
