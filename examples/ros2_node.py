"""A ROS 2 node: images in on ``image``, the camera's pose out on ``pose``, in the axes of the first camera.

python3 examples/ros2_node.py --ros-args -r image:=/camera/image_raw      needs rclpy; not run where qvggt is built
"""

import runpy
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

ENCODINGS = {"rgb8": (3, (0, 1, 2)), "bgr8": (3, (2, 1, 0)), "mono8": (1, (0, 0, 0))}


def to_rgb(message) -> np.ndarray:
    """Return the pixels of a sensor_msgs/Image as RGB bytes [H, W, 3]; rows may be padded."""
    if message.encoding not in ENCODINGS:
        raise ValueError(f"encoding {message.encoding!r} is none of {', '.join(ENCODINGS)}")
    channels, order = ENCODINGS[message.encoding]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    pixels = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
    return pixels[..., list(order)]


def fill(message, pose: np.ndarray) -> None:
    """Write world_from_camera [4, 4] into a geometry_msgs/Pose."""
    message.position.x, message.position.y, message.position.z = map(float, pose[:3, 3])
    turn = message.orientation
    turn.x, turn.y, turn.z, turn.w = map(float, Rotation.from_matrix(pose[:3, :3]).as_quat())


def main() -> None:
    """Run the node until it is interrupted; a queue of one drops frames that come while one is computed."""
    import rclpy
    from geometry_msgs.msg import PoseStamped
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    tracker = runpy.run_path(str(Path(__file__).with_name("09_robot.py")))["Tracker"]()
    rclpy.init()
    node = rclpy.create_node("qvggt")
    publisher = node.create_publisher(PoseStamped, "pose", 1)

    def publish(message) -> None:
        pose = tracker.step(to_rgb(message))
        out = PoseStamped()
        out.header = message.header
        fill(out.pose, pose)
        publisher.publish(out)

    qos_profile_sensor_data.depth = 1
    node.create_subscription(Image, "image", publish, qos_profile_sensor_data)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
