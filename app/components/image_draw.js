// What both pictures of attention have in common: colours, and the map of a head over an image.
const OPACITY = 0.7;

const floats = (letters) => new Float32Array(Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0)).buffer);
const number = (v) => (Number.isNaN(v) ? "no value" : Number(v.toPrecision(3)).toString().replace("-", "\u2212"));

// The end of the scale: the largest magnitude among the patches of a row; 1 where there is nothing to see.
const limitOf = (row, added) => {
  let most = 0;
  for (let i = added; i < row.length; i++) if (Math.abs(row[i]) > most) most = Math.abs(row[i]);
  return most || 1;
};

// A value's colour as [red, green, blue]: on a scale from 0 to limit, or from −limit where it is signed.
const colourOf = (value, limit, colours, signed, blank) => {
  if (Number.isNaN(value)) return blank.match(/\w\w/g).map((pair) => parseInt(pair, 16));
  const share = Math.max(0, Math.min(1, signed ? (value / limit + 1) / 2 : value / limit));
  const at = share * (colours.length - 1), i = Math.min(colours.length - 2, Math.floor(at));
  return colours[i].map((c, k) => Math.round(c + (colours[i + 1][k] - c) * (at - i)));
};

// A colour's relative luminance, and that on which black and white have the same contrast (WCAG 2).
const MIDDLE = 0.179;
const luminance = (colour) => {
  const [r, g, b] = colour.map((c) => (c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

// The image at (x, y), of that size; and, where there is a row of weights, the patches' colours over it.
const drawImage = (g, image, x, y, wide, high, data, row, limit) => {
  g.imageSmoothingEnabled = image.naturalWidth > wide;
  if (image.complete && image.naturalWidth) g.drawImage(image, x, y, wide, high);
  if (!row) return;
  const layer = document.createElement("canvas"), [rows, columns] = data.grid;
  [layer.width, layer.height] = [columns, rows];
  const pixels = new ImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    const value = row[data.added.length + i];
    pixels.data.set([...colourOf(value, limit, data.colours, data.signed, data.blank), Math.round(255 * OPACITY)], 4 * i);
  }
  layer.getContext("2d").putImageData(pixels, 0, 0);
  g.imageSmoothingEnabled = false;
  g.drawImage(layer, x, y, wide, high);
};

// A canvas of a size in CSS pixels, cleared, and its context.
const sized = (canvas, wide, high) => {
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(wide * ratio), Math.round(high * ratio)];
  Object.assign(canvas.style, { width: `${wide}px`, height: `${high}px` });
  const g = canvas.getContext("2d");
  g.scale(ratio, ratio);
  return g;
};

// The image of a component: loaded again only where it is another one.
const imageOf = (root, source, draw) => {
  if (root.image?.src !== source) {
    root.image = new Image();
    root.image.src = source;
  }
  root.image.onload = draw;
  return root.image;
};
