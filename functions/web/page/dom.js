// @ts-check
// The page's elements. Text from outside only ever becomes text.

/**
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export const $ = (id) => /** @type {T} */ (document.getElementById(id));

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Partial<HTMLElementTagNameMap[K]>} properties
 * @param {(string | Node)[]} children
 */
export function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/**
 * Control and bidirectional characters could make one name look like another, so they are shown as numbers.
 *
 * @param {string} text
 */
export const clean = (text) =>
  text.replace(/[\p{C}\u2028\u2029]/gu, (letter) => `\\u{${letter.codePointAt(0)?.toString(16)}}`);

/** @typedef {{ left: number, top: number, right: number, bottom: number }} Box Shares of the picture's sides. */

/**
 * Return a drawing that frames the place where the model found the vehicle, to lie over the picture.
 *
 * @param {HTMLImageElement} picture
 * @param {Box} box
 */
export function frame({ naturalWidth: width, naturalHeight: height }, box) {
  const [drawing, edge] = ['svg', 'rect'].map((name) => document.createElementNS('http://www.w3.org/2000/svg', name));
  const place = {
    x: box.left * width,
    y: box.top * height,
    width: (box.right - box.left) * width,
    height: (box.bottom - box.top) * height,
  };
  for (const [name, value] of Object.entries(place)) edge.setAttribute(name, String(value));
  drawing.setAttribute('viewBox', `0 0 ${width} ${height}`);
  drawing.ariaHidden = 'true';
  drawing.append(edge);
  return drawing;
}

/** The content policy admits only images that the scripts create, so a script creates the tab's icon. */
export function showIcon() {
  const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#0b6b5b"/>
<path d="M9 17l5 5 9-11" fill="none" stroke="#fff" stroke-width="4" stroke-linecap="round" stroke-linejoin="round"/></svg>`;
  const href = URL.createObjectURL(new Blob([icon], { type: 'image/svg+xml' }));
  document.head.append(element('link', { rel: 'icon', href }));
}

/** @param {number} seconds The longest wait; it ends early when the browser is online again. */
export const pause = (seconds) =>
  new Promise((resolve) => {
    setTimeout(resolve, 1000 * seconds);
    addEventListener('online', resolve, { once: true, signal: AbortSignal.timeout(1000 * seconds) });
  });
