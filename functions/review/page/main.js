// @ts-check
// The review page: signs a person in, shows the photo that has waited longest, and sends the decision.

import { $, showIcon } from './dom.js';
import { Queue } from './queue.js';
import { Refused, Session, SignedOut, SignInFailed, Unreachable } from './session.js';
import * as view from './view.js';

const RETRY_MS = 4_000;

/** @type {HTMLMetaElement | null} */
const settings = document.querySelector('meta[name=settings]');
const session = new Session(JSON.parse(settings?.content ?? ''));
const queue = new Queue(session, {
  change: () => view.show(queue),
  say: view.say,
  notice: view.notice,
  reached: () => {
    $('banner').hidden = true;
  },
  trouble,
});

/**
 * Show an error: a lost session closes the page, a lost connection shows above it, any other is a message.
 *
 * @param {unknown} error
 */
function trouble(error) {
  if (error instanceof Unreachable) view.offline(error.message, queue.outbox.length);
  else if (error instanceof SignedOut) {
    close('Your session has ended', 'Sign in again to continue. Unsent answers are kept, and sent after the sign-in.');
  } else if (error instanceof SignInFailed) close('You are not signed in', error.message);
  else if (error instanceof Refused && error.status === 403) {
    close('You have no access', `${error.message}. Ask your operator, or sign in again.`);
  } else view.say(error instanceof Error ? error.message : String(error), true);
}

/** @param {string} heading @param {string} text */
function close(heading, text) {
  queue.close();
  view.gate(heading, text);
}

async function start() {
  try {
    await session.begin();
  } catch (error) {
    trouble(error);
    if (error instanceof Unreachable) setTimeout(start, RETRY_MS);
    return;
  }
  $('banner').hidden = true;
  $('sign-out').hidden = false;
  document.body.dataset.state = 'ready';
  await queue.open();
}

function signOut() {
  const unsent = queue.outbox.length;
  if (unsent && !confirm(`${unsent} of your answers are not sent yet. Sign out all the same?`)) return;
  queue.close();
  session.signOut();
}

// ----------------------------------------------------------------------------------------------------------- keys ---

/** @type {HTMLInputElement} */
const shortcuts = $('shortcuts');
shortcuts.checked = localStorage.getItem('shortcuts') !== 'off';
shortcuts.onchange = () => {
  localStorage.setItem('shortcuts', shortcuts.checked ? 'on' : 'off');
  showKeys();
};
const showKeys = () => document.body.classList.toggle('no-keys', !shortcuts.checked);

/** @type {HTMLDialogElement} */
const correction = $('correction');

/** @param {KeyboardEvent} event */
function pressed(event) {
  if (!shortcuts.checked || event.ctrlKey || event.altKey || event.metaKey || event.repeat || correction.open) return;
  const key = event.key.toLowerCase();
  const answer = queue.world.answers[view.keysOf(queue.world.answers).indexOf(key)];
  if (answer) queue.decide(answer);
  else if (key === 'u') queue.undo();
  else if (key === 's') queue.skip();
  else if (key === 'z') view.toggleZoom();
}

showKeys();
showIcon();
view.zoomByPointer();
$('skip').onclick = () => queue.skip();
$('undo').onclick = () => queue.undo();
$('sign-in').onclick = () => session.signIn();
$('sign-out').onclick = signOut;
$('correction-close').onclick = () => correction.close();
$('notice-close').onclick = () => {
  $('notice').hidden = true;
};
addEventListener('keydown', pressed);
for (const sign of ['keydown', 'pointerdown', 'pointermove', 'wheel']) {
  addEventListener(sign, () => queue.active(), { passive: true });
}
addEventListener('online', () => queue.look());
addEventListener('offline', () => trouble(new Unreachable('Not connected.')));
document.addEventListener('visibilitychange', () => queue.seen());
addEventListener('beforeunload', (event) => {
  if (queue.outbox.length && !queue.closed) event.preventDefault();
});
setInterval(() => view.showTime(queue), 20_000);

start();
