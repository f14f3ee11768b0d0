// Renderer: points, frustums and photographs of one or two results in WebGL2.
const POINT_VERTEX = `#version 300 es
precision highp float;
layout(location=0) in vec3 position; layout(location=1) in vec2 confidenceDepth;
layout(location=2) in vec4 colorFrame; layout(location=3) in float difference;
uniform mat4 clip; uniform vec3 low, size, nearRatioFixed; uniform vec4 tint; uniform float hidden, top, scale; uniform int mode;
uniform sampler2D maps;
out vec3 color;
void main() {
  vec3 place = low + position * size;
  gl_Position = clip * vec4(place, 1);
  if (confidenceDepth.x < hidden || place.y > top) gl_Position = vec4(2, 2, 2, 1);
  float depth = nearRatioFixed.x * exp(confidenceDepth.y * nearRatioFixed.y) + nearRatioFixed.z;
  gl_PointSize = clamp(scale * depth / gl_Position.w, 1.0, 48.0);
  float value = mode == 1 ? confidenceDepth.y : mode == 2 ? confidenceDepth.x : mode == 3 ? colorFrame.w : difference;
  color = mode == 0 ? mix(colorFrame.rgb, tint.rgb, tint.a) : texture(maps, vec2((value * 255.0 + 0.5) / 256.0, (float(mode) - 0.5) / 4.0)).rgb;
}`;
const POINT_FRAGMENT = `#version 300 es
precision mediump float;
in vec3 color; out vec4 pixel;
void main() { vec2 away = gl_PointCoord - 0.5; if (dot(away, away) > 0.26) discard; pixel = vec4(color, 1); }`;
const LINE_VERTEX = `#version 300 es
precision highp float;
layout(location=0) in vec3 start; layout(location=1) in vec3 end; layout(location=2) in vec3 shade; layout(location=3) in vec3 center;
uniform mat4 clip; uniform vec2 pixels; uniform vec3 eye; uniform float width, close;
out vec3 color;
void main() {
  vec4 a = clip * vec4(start, 1), b = clip * vec4(end, 1);
  if (a.w < 1e-3) a = mix(a, b, (1e-3 - a.w) / max(b.w - a.w, 1e-9));
  if (b.w < 1e-3) b = mix(b, a, (1e-3 - b.w) / max(a.w - b.w, 1e-9));
  vec2 along = (b.xy / b.w - a.xy / a.w) * pixels;
  vec2 across = length(along) > 0.0 ? normalize(vec2(-along.y, along.x)) : vec2(0, 1);
  vec4 here = gl_VertexID < 2 ? a : b;
  here.xy += across * (float(gl_VertexID & 1) * 2.0 - 1.0) * width / pixels * here.w;
  gl_Position = distance(eye, center) < close ? vec4(2, 2, 2, 1) : here;
  color = shade;
}`;
const PHOTO_VERTEX = `#version 300 es
precision highp float;
layout(location=0) in vec3 center; layout(location=1) in vec3 middle; layout(location=2) in vec3 right; layout(location=3) in vec3 down;
layout(location=4) in vec4 rectangle;
uniform mat4 clip; uniform vec3 eye; uniform float close;
out vec2 at;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  at = rectangle.xy + corner * rectangle.zw;
  gl_Position = distance(eye, center) < close ? vec4(2, 2, 2, 1)
    : clip * vec4(middle + (corner.x * 2.0 - 1.0) * right + (corner.y * 2.0 - 1.0) * down, 1);
}`;
const PHOTO_FRAGMENT = `#version 300 es
precision mediump float;
in vec2 at; uniform sampler2D photos; out vec4 pixel;
void main() { pixel = texture(photos, at); }`;
const LINE_FRAGMENT = `#version 300 es
precision mediump float;
in vec3 color; out vec4 pixel;
void main() { pixel = vec4(color, 1); }`;

const add = (a, b, s = 1) => a.map((value, i) => value + s * b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/** Axes of a viewer: `back` points from the target to the eye. */
function axes({ azimuth, elevation }) {
  const [sa, ca, se, ce] = [Math.sin(azimuth), Math.cos(azimuth), Math.sin(elevation), Math.cos(elevation)];
  return { right: [ca, 0, -sa], up: [-se * sa, ce, -se * ca], back: [ce * sa, se, ce * ca] };
}

/** Clip matrix, by columns, of a viewer in a viewport of some pixels, and the eye. */
function lens(viewer, width, height) {
  const { right, up, back } = axes(viewer);
  const eye = add(viewer.target, back, viewer.distance);
  const focal = 1.15 * Math.min(width, height);
  const [x, y] = [(2 * focal) / width, (2 * focal) / height];
  const near = 0.01 * Math.min(1, viewer.distance), far = viewer.distance + 20;
  const [a, b] = [(far + near) / (near - far), (2 * far * near) / (near - far)];
  const clip = [];
  for (let i = 0; i < 3; i++) clip.push(x * right[i], y * up[i], a * back[i], -back[i]);
  clip.push(-x * dot(right, eye), -y * dot(up, eye), -a * dot(back, eye) + b, dot(back, eye));
  return { clip: new Float32Array(clip), eye, focal, x, y };
}

/** What draws a scene on a canvas; throws if there is no WebGL2. */
class View {
  constructor(canvas, scene, data, photos) {
    const gl = (this.gl = canvas.getContext("webgl2", { antialias: false, alpha: false, powerPreference: "high-performance" }));
    if (!gl) throw new Error("This page needs WebGL 2, which this browser or its graphics driver does not offer.");
    this.scene = scene;
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.enable(gl.DEPTH_TEST);
    this.programs = { points: this.program(POINT_VERTEX, POINT_FRAGMENT), lines: this.program(LINE_VERTEX, LINE_FRAGMENT), photos: this.program(PHOTO_VERTEX, PHOTO_FRAGMENT) };
    const maps = new Uint8Array(4 * 768);
    ["depth", "confidence", "frame", "difference"].forEach((name, i) => maps.set(scene.maps[name], 768 * i));
    this.maps = this.texture(gl.NEAREST, (kind) => gl.texImage2D(kind, 0, gl.RGB, 256, 4, 0, gl.RGB, gl.UNSIGNED_BYTE, maps));
    this.photos = this.texture(gl.LINEAR_MIPMAP_LINEAR, (kind) => gl.texImage2D(kind, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, photos));
    this.results = scene.results.map((result, i) => this.upload(result, data, i));
  }

  program(vertex, fragment) {
    const gl = this.gl, program = gl.createProgram(), places = {};
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(`The graphics driver refused a shader: ${gl.getProgramInfoLog(program)}`);
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const { name } = gl.getActiveUniform(program, i);
      places[name] = gl.getUniformLocation(program, name);
    }
    return { program, ...places };
  }

  texture(minify, fill) {
    const gl = this.gl, texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    fill(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, minify);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, minify === gl.NEAREST ? gl.NEAREST : gl.LINEAR);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    if (minify === gl.LINEAR_MIPMAP_LINEAR) gl.generateMipmap(gl.TEXTURE_2D);
    return texture;
  }

  /** A vertex array of [location, components, type, stride, offset] rows over buffers; `divisor` 1 makes them instances. */
  arrays(buffers, divisor) {
    const gl = this.gl, array = gl.createVertexArray();
    gl.bindVertexArray(array);
    for (const [values, rows] of buffers) {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      for (const [location, components, type, stride, offset] of rows) {
        gl.enableVertexAttribArray(location);
        gl.vertexAttribPointer(location, components, type, type !== gl.FLOAT, stride, offset);
        gl.vertexAttribDivisor(location, divisor);
      }
    }
    return array;
  }

  upload(result, data, index) {
    const gl = this.gl, byte = gl.UNSIGNED_BYTE;
    const buffers = [
      [data.points[index], [[0, 3, gl.UNSIGNED_SHORT, 8, 0], [1, 2, byte, 8, 6]]],
      [data.shared, [[2, 4, byte, 4, 0]]],
    ];
    if (data.difference) buffers.push([data.difference, [[3, 1, byte, 1, 0]]]);
    const size = (this.frustum = 0.045), { columns, rows } = this.scene.photos;
    const lines = [], photos = [];
    result.cameras.forEach(({ position, right, down, forward }, i) => {
      const middle = add(position, forward, size), color = this.scene.frameColors[i].map((value) => value / 255);
      const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([x, y]) => add(add(middle, right, x * size), down, y * size));
      corners.forEach((corner, k) => {
        lines.push(...position, ...corner, ...color, ...position);
        lines.push(...corner, ...corners[(k + 1) % 4], ...color, ...position);
      });
      photos.push(...position, ...middle, ...right.map((v) => v * size), ...down.map((v) => v * size));
      photos.push((i % columns) / columns, Math.floor(i / columns) / rows, 1 / columns, 1 / rows);
    });
    const floats = (strides, total) => strides.map(([location, components, offset]) => [location, components, gl.FLOAT, 4 * total, 4 * offset]);
    return {
      points: this.arrays(buffers, 0),
      lines: this.arrays([[new Float32Array(lines), floats([[0, 3, 0], [1, 3, 3], [2, 3, 6], [3, 3, 9]], 12)]], 1),
      photos: this.arrays([[new Float32Array(photos), floats([[0, 3, 0], [1, 3, 3], [2, 3, 6], [3, 3, 9], [4, 4, 12]], 16)]], 1),
      cameras: result.cameras.length,
    };
  }

  clear(background) {
    const gl = this.gl;
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(...background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  }

  /** Draw results (indices with a tint) in a viewport of device pixels. */
  draw(shown, [left, bottom, width, height], viewer, look) {
    const gl = this.gl, { clip, eye, focal } = lens(viewer, width, height), { scene } = this;
    gl.viewport(left, bottom, width, height);
    gl.scissor(left, bottom, width, height);
    gl.enable(gl.SCISSOR_TEST);
    const points = this.programs.points;
    gl.useProgram(points.program);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.maps);
    gl.uniformMatrix4fv(points.clip, false, clip);
    gl.uniform3fv(points.low, scene.box.low);
    gl.uniform3fv(points.size, scene.box.size);
    gl.uniform3fv(points.nearRatioFixed, scene.depth ? [scene.depth.near / scene.depth.unit, Math.log(scene.depth.far / scene.depth.near), 0] : [0, 0, 0.5]);
    gl.uniform1f(points.hidden, look.hidden);
    gl.uniform1f(points.top, look.top);
    gl.uniform1f(points.scale, look.size * focal * scene.pixel * Math.sqrt(scene.pixels / look.count));
    gl.uniform1i(points.mode, ["image", "depth", "confidence", "frame", "difference"].indexOf(look.color));
    for (const [index, tint] of shown) {
      gl.uniform4fv(points.tint, tint);
      gl.bindVertexArray(this.results[index].points);
      gl.drawArrays(gl.POINTS, 0, look.count);
    }
    for (const [name, program, texture, each] of [["photos", this.programs.photos, this.photos, 1], ["lines", this.programs.lines, null, 8]]) {
      if (!look[name]) continue;
      gl.useProgram(program.program);
      if (texture) gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.uniformMatrix4fv(program.clip, false, clip);
      gl.uniform3fv(program.eye, eye);
      gl.uniform1f(program.close, 0.8 * this.frustum);
      if (program.pixels) gl.uniform2f(program.pixels, width, height);
      if (program.width) gl.uniform1f(program.width, look.lineWidth);
      for (const [index] of shown) {
        gl.bindVertexArray(this.results[index][name]);
        gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, each * this.results[index].cameras);
      }
    }
  }
}
