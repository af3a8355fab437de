// The texts of a page whose contrast is below `least`; see contrast.py.
(least) => {
  const EXEMPT = 'script, style, noscript, [disabled], [aria-disabled=true], [data-testid=stIconMaterial]';
  const rgba = (text) => {
    const context = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d');
    context.fillStyle = text;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return a ? [r, g, b, a / 255] : [0, 0, 0, 0];
  };
  const known = new Map();
  const colour = (text) => known.get(text) ?? known.set(text, rgba(text)).get(text);
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = (c) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = c.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const chain = (node) => (node ? [node, ...chain(node.parentElement)] : []);
  const faint = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest(EXEMPT)) continue;
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height || getComputedStyle(element).clipPath !== 'none') continue;
    const ancestors = chain(element), styles = ancestors.map((node) => getComputedStyle(node));
    let behind = [255, 255, 255, 1];
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    for (const [i, style] of [...styles.entries()].reverse()) {
      const at = ancestors[i].getBoundingClientRect();
      const isThumb = at.height < 40;  // of a slider: its value stands beside it
      if (!isThumb || (at.left <= x && x <= at.right && at.top <= y && y <= at.bottom)) behind = over(colour(style.backgroundColor), behind);
    }
    const isSvg = element.closest('svg') !== null;
    const own = colour(isSvg && styles[0].fill !== 'none' ? styles[0].fill : styles[0].color);
    const opacity = styles.reduce((share, style) => share * Number(style.opacity), own[3]);
    const [a, b] = [over([own[0], own[1], own[2], opacity], behind), behind].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = `${element.tagName} ${element.className?.baseVal ?? element.className}`;
    if (ratio < least) faint.add(`${text.slice(0, 40)} (${name}): ${ratio.toFixed(2)}`);
  }
  return [...faint];
}
