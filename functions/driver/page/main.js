// @ts-check
// The drivers' page: signs a driver in, sends a photo, and shows where to go.

import { follow, reduced, send } from './delivery.js';
import { $, clean, element, frame, showIcon } from './dom.js';
import { Refused, Session, SignedOut, SignInFailed, Unreachable } from './session.js';

/** @typedef {import('./delivery.js').Outcome} Outcome */

const LANGUAGES = ['en', 'es', 'pt'];
const RETRY_MS = 4_000;
const FINAL = ['routed', 'retake'];

/** @type {HTMLMetaElement | null} */
const settings = document.querySelector('meta[name=settings]');
const session = new Session(JSON.parse(settings?.content ?? ''));
/** @type {Record<string, any>} */
let texts = {};
let turn = 0;
let unsent = 0;

/** @param {string} name @param {Record<string, string>} [values] @returns {string} */
const text = (name, values = {}) => {
  const fill = (/** @type {string} */ _, /** @type {string} */ key) => values[key];
  return texts[name].replace(/\{(\w+)\}/g, fill);
};

/** @param {Outcome} outcome */
function sentence({ status, bay = '', orders = '', reason_code = '' }) {
  if (status === 'routed') {
    const which = ['near', 'far'].includes(orders) ? text(orders) : text('orders', { orders: clean(orders) });
    return text('routed', { bay: clean(bay), orders: which });
  }
  if (status === 'retake') return text('retake', { reason: texts.reasons[reason_code] ?? texts.reasons.OTHER });
  return text(status);
}

/** @param {string} status @param {string} said @param {string} [about] */
function say(status, said, about = '') {
  $('answer').dataset.status = status;
  $('said').textContent = said;
  $('about').textContent = about;
  $('take').textContent = text({ none: 'take', retake: 'takeAgain' }[status] ?? 'takeAnother');
}

/** @param {Outcome} outcome */
function show(outcome) {
  $('banner').hidden = true;
  const hints = { review: text('reviewHint'), failed: text('failedHint') };
  const order = outcome.order ? clean(outcome.order) : '';
  say(outcome.status, sentence(outcome), hints[/** @type {'review'} */ (outcome.status)] ?? order);
  const picture = $('picture').querySelector('img');
  if (picture && outcome.box) $('picture').replaceChildren(picture, frame(picture, outcome.box));
}

/** @param {unknown} error */
function trouble(error) {
  if (error instanceof Unreachable) {
    $('banner').textContent = text('offline');
    $('banner').hidden = false;
  } else if (error instanceof SignedOut) gate(text('ended'), text('endedHint'));
  else if (error instanceof SignInFailed) gate(text('notSignedIn'), text('noAccessHint'));
  else if (error instanceof Refused && error.status === 403) gate(text('noAccess'), text('noAccessHint'));
  else {
    const code = error instanceof Error ? error.message : '';
    say('retake', text('retake', { reason: texts.reasons[code] ?? texts.reasons.OTHER }));
  }
}

/** @param {string} heading @param {string} hint */
function gate(heading, hint) {
  turn++;
  $('gate-title').textContent = heading;
  $('gate-text').textContent = hint;
  $('gate').hidden = false;
  $('banner').hidden = true;
  document.body.dataset.state = 'closed';
  $('sign-in').focus();
}

/** A new photo replaces the previous one on screen; the previous outcome then appears only in the list. */
function newTurn() {
  const mine = ++turn;
  return (/** @type {() => void} */ act) => {
    if (mine === turn) act();
    return mine === turn;
  };
}

/** The photo that was sent, if the browser can show it. @param {Blob} photo */
async function preview(photo) {
  const picture = element('img', { alt: text('sent'), src: URL.createObjectURL(photo) });
  const [ready] = await Promise.allSettled([picture.decode()]);
  URL.revokeObjectURL(picture.src);
  return ready.status === 'fulfilled' ? [picture] : [];
}

/** @param {File} file */
async function take(file) {
  const current = newTurn();
  const number = order.value;
  order.value = '';
  unsent++;
  say('sending', text('sending'));
  $('picture').replaceChildren();
  try {
    const photo = await reduced(file);
    const picture = await preview(photo);
    current(() => $('picture').replaceChildren(...picture));
    const id = await send(session, photo, number, (error) => current(() => trouble(error))).finally(() => unsent--);
    await followed(id, current);
  } catch (error) {
    current(() => trouble(error));
  }
}

/** @param {string} id @param {(act: () => void) => boolean} current */
async function followed(id, current) {
  let last = '';
  const shown = (/** @type {Outcome} */ outcome) => {
    if (last !== outcome.status) showHistory().catch(() => {});
    last = outcome.status;
    return current(() => show(outcome)) && !FINAL.includes(outcome.status);
  };
  await follow(session, id, shown, (error) => current(() => trouble(error)));
}

async function showHistory() {
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  const since = midnight.toISOString().replace(/\.\d+|[-:]/g, '');
  /** @type {{ photos: Outcome[] }} */
  const { photos } = await session.call(`/photos?since=${since}`);
  $('history').hidden = !photos.length;
  $('photos').replaceChildren(
    ...photos.map((photo) => {
      const at = new Date(photo.at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
      const time = element('time', { dateTime: photo.at }, at);
      return element('li', {}, time, element('b', {}, sentence(photo)), element('span', {}, clean(photo.order ?? '')));
    }),
  );
  return photos;
}

async function chooseLanguage() {
  const wanted = navigator.languages.map((each) => each.slice(0, 2).toLowerCase());
  const language = wanted.find((each) => LANGUAGES.includes(each)) ?? 'en';
  texts = await (await fetch(`driver/${language}.json`)).json();
  document.documentElement.lang = language;
  for (const each of document.querySelectorAll('[data-text]')) {
    each.textContent = text(/** @type {HTMLElement} */ (each).dataset.text ?? '');
  }
}

async function start() {
  try {
    if (!texts.start) await chooseLanguage();
    await session.begin();
    $('name').textContent = clean(session.user);
    $('sign-out').hidden = false;
    say('none', text('start'), text('hint'));
    document.body.dataset.state = 'ready';
    const [latest] = await showHistory();
    // A driver who returns sees the same pending answer as before.
    if (latest && !FINAL.includes(latest.status)) await followed(latest.id, newTurn());
  } catch (error) {
    if (!texts.start || error instanceof Unreachable) setTimeout(start, RETRY_MS);
    if (texts.start) trouble(error);
  }
}

/** @type {HTMLInputElement} */
const camera = $('camera');
/** @type {HTMLInputElement} */
const order = $('order');
showIcon();
$('take').onclick = () => {
  order.setCustomValidity(order.validity.patternMismatch ? text('badOrder') : '');
  if (order.reportValidity()) camera.click();
};
camera.onchange = () => {
  const file = camera.files?.[0];
  camera.value = '';
  if (file) take(file);
};
order.oninput = () => order.setCustomValidity('');
$('sign-in').onclick = () => session.signIn();
$('sign-out').onclick = () => session.signOut();
addEventListener('beforeunload', (event) => {
  if (unsent) event.preventDefault();
});

start();
