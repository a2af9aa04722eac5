// @ts-check
// Shows the queue. Text from outside only ever becomes text.

import { $, clean, element, frame } from './dom.js';
import { ago, clock, label, percent, plural, REASONS, title } from './words.js';

/** @typedef {import('./queue.js').Queue} Queue */

const LISTED = 8;
const ZOOM = 2.5;

/** @type {HTMLDialogElement} */
const correction = $('correction');
const state = document.body.dataset;

// ---------------------------------------------------------------------------------------------------------- messages ---

/** @param {string} text @param {boolean} [bad] */
export function say(text, bad = false) {
  $('said').textContent = text;
  $('said').classList.toggle('bad', bad);
}

/** Show a message that stays until it is read. @param {string} text */
export function notice(text) {
  $('notice-text').textContent = clean(text);
  $('notice').hidden = false;
}

/** Show that the connection is lost. @param {string} problem @param {number} unsent */
export function offline(problem, unsent) {
  const kept = unsent ? `${plural(unsent, 'answer')} will be sent when the connection is back.` : 'Trying again …';
  $('banner').textContent = `${problem} ${kept}`;
  $('banner').hidden = false;
}

/** Close the page and show only the reason. @param {string} heading @param {string} text */
export function gate(heading, text) {
  $('gate-title').textContent = heading;
  $('gate-text').textContent = text;
  $('gate').hidden = false;
  $('banner').hidden = true;
  $('sign-out').hidden = true;
  correction.close();
  state.state = 'closed';
  $('sign-in').focus();
}

// --------------------------------------------------------------------------------------------------------- the photo ---

/** @param {Queue} queue */
export function show(queue) {
  if (queue.closed) return;
  const item = queue.hand[0];
  state.state = item ? 'ready' : 'empty';
  if (state.photo !== (item?.ready ? item.photo : '')) zoom(false);
  state.photo = item?.ready ? item.photo : '';
  const framed = item?.ready && item.box ? [frame(item.ready, item.box)] : [];
  $('picture').replaceChildren(...(item?.ready ? [item.ready, ...framed] : []));
  $('zoom').hidden = !item?.ready;
  $('note').textContent = note(queue);
  showAnswers(queue);
  $('driver').textContent = item ? title(item) : '';
  $('name').textContent = item ? clean(item.key) : '';
  $('name').title = item ? clean(item.key) : '';
  $('scores').replaceChildren(
    ...Object.entries(item?.scores ?? {}).map(([name, score]) => {
      const value = element('dd', {}, percent(score));
      value.style.setProperty('--share', String(score));
      return element('div', {}, element('dt', {}, label(name)), value);
    }),
  );
  $('why').textContent = REASONS[item?.why ?? ''] ?? '';
  showOthers(queue);
  showCounts(queue);
  showTime(queue);
  showHistory(queue);
}

/** @param {Queue} queue */
function note({ hand: [item], looking, outbox }) {
  if (!item) return looking || outbox.length ? '' : 'Nothing to review.\nNew photos appear here automatically.';
  if (item.broken) return `This photo cannot be shown: ${item.broken}`;
  return item.ready ? '' : 'Loading …';
}

/** @param {Queue} queue */
function showOthers({ hand: [item] }) {
  $('beside').hidden = !item?.driver;
  const drawn = (item?.others ?? []).flatMap((other) => {
    if (!other.picture) return [];
    other.picture.alt = `Photo of ${clock(other.at)}`;
    const captions = [label(other.outcome), clock(other.at)].map((text) => element('span', {}, text));
    return [element('li', {}, other.picture, ...captions)];
  });
  const none = item?.others?.length === 0;
  $('beside-title').textContent = none
    ? 'No other photos of this driver today'
    : drawn.length
      ? 'Same driver, same day'
      : '';
  $('others').replaceChildren(...drawn);
}

/** @param {Queue} queue */
function showCounts({ world }) {
  const about = [`${world.waiting}${world.more ? '+' : ''} waiting`, `${world.decided} decided today`];
  if (world.seconds) about.push(`${world.seconds.toFixed(1)} s each`);
  $('counts').textContent = about.join(' · ');
  const colleagues = Object.entries(world.colleagues).map(([name, count]) => `${clean(name)} has ${count}`);
  $('colleagues').textContent = colleagues.join(', ');
  document.title = `${world.waiting ? `(${world.waiting}) ` : ''}Review · Loading Bay`;
}

/** @param {Queue} queue */
export function showTime({ hand: [item] }) {
  if (item) $('waited').textContent = `waiting for ${ago(item.since)}`;
}

/** Enlarge the picture around a point of it, or show it whole. @param {boolean} on @param {number} [x] @param {number} [y] */
export function zoom(on, x = 0.5, y = 0.5) {
  $('stage').classList.toggle('zoomed', on);
  $('zoom').ariaPressed = String(on);
  $('picture').style.transform = on ? `scale(${ZOOM})` : '';
  $('picture').style.transformOrigin = `${100 * x}% ${100 * y}%`;
}

/** Let a tap, and the pointer while the picture is enlarged, choose its visible part. */
export function zoomByPointer() {
  const stage = $('stage');
  const isOn = () => stage.classList.contains('zoomed');
  const within = (/** @type {number} */ share) => Math.min(1, Math.max(0, share));
  let [x, y] = [0.5, 0.5];
  const place = (/** @type {PointerEvent | MouseEvent} */ event) => {
    const box = stage.getBoundingClientRect();
    [x, y] = [within((event.clientX - box.x) / box.width), within((event.clientY - box.y) / box.height)];
  };
  $('picture').onclick = (event) => {
    if (!isOn()) place(event);
    zoom(!isOn(), x, y);
  };
  stage.onpointermove = (event) => {
    if (!isOn()) return;
    if (event.pointerType === 'mouse') place(event);
    else {
      const box = stage.getBoundingClientRect();
      x = within(x - event.movementX / box.width / (ZOOM - 1));
      y = within(y - event.movementY / box.height / (ZOOM - 1));
    }
    zoom(true, x, y);
  };
  $('zoom').onclick = toggleZoom;
}

export function toggleZoom() {
  if (!$('zoom').hidden) zoom(!$('stage').classList.contains('zoomed'));
}

// --------------------------------------------------------------------------------------------------------- the answers ---

/** The keys of the answers, in their order: 1, 2, … and 0 for none of the vehicles, which comes last. @param {string[]} all */
export const keysOf = (all) => all.map((_, index) => (index === all.length - 1 ? '0' : String(index + 1)));

/** @param {Queue} queue */
function showAnswers(queue) {
  const { answers, guidelines } = queue.world;
  const settings = JSON.stringify([answers, guidelines]);
  if ($('answers').dataset.drawn !== settings) {
    $('answers').dataset.drawn = settings;
    const keys = keysOf(answers);
    $('answers').replaceChildren(
      ...answers.map((answer, index) => {
        const button = element('button', { type: 'button', onclick: () => queue.decide(answer) }, label(answer));
        if (keys[index].length === 1) {
          button.setAttribute('aria-keyshortcuts', keys[index]);
          button.append(element('kbd', {}, keys[index]));
        }
        return button;
      }),
    );
    $('guidelines').hidden = !guidelines.length;
    $('rules').replaceChildren(...guidelines.map((each) => element('li', {}, each)));
  }
  const item = queue.hand[0];
  for (const button of $('answers').children) {
    button.ariaDisabled = String(!(item?.ready || item?.broken)); // a disabled one would lose the focus
  }
}

// --------------------------------------------------------------------------------------------------------- the history ---

let undoEnds = 0;

/** @param {Queue} queue */
function showHistory(queue) {
  const { mine, undoable } = queue;
  const replaced = new Set(mine.flatMap((own) => [own.id, own.corrects ?? '']));
  const listed = [...mine, ...queue.world.recent.filter((each) => !replaced.has(each.id))]
    .filter((each, index, all) => all.findIndex((first) => first.photo === each.photo) === index)
    .slice(0, LISTED)
    .map((decision) => ({ decision, sending: 'taken' in decision && !decision.taken }));
  if ($('undo') === document.activeElement && !undoable) $('skip').focus();
  $('undo').hidden = !undoable;
  $('history').hidden = !listed.length;
  const drawn = JSON.stringify([
    undoable?.id,
    listed.map(({ decision: { id, answer }, sending }) => [id, answer, sending]),
  ]);
  if ($('recent').dataset.drawn !== drawn) {
    $('recent').dataset.drawn = drawn; // drawn again, a button loses the focus
    $('recent').replaceChildren(...listed.map(({ decision, sending }) => entry(queue, decision, sending)));
  }
  clearTimeout(undoEnds);
  if (undoable?.taken) undoEnds = setTimeout(() => showHistory(queue), 1000 * queue.secondsToUndo(undoable) + 50);
}

/** @param {Queue} queue @param {import('./queue.js').Decided} decision @param {boolean} sending */
function entry(queue, decision, sending) {
  const key = clean(decision.key);
  const by = decision.by === queue.user ? '' : ` by ${clean(decision.by)}`;
  const about = element(
    'span',
    {},
    element('b', {}, label(decision.answer)),
    by,
    element('small', { title: key }, key),
  );
  const isUndo = decision.id === queue.undoable?.id;
  const isOpinion = 'second' in decision && decision.second;
  const name = isUndo ? 'Undo' : 'Correct';
  const onclick = () => (isUndo ? queue.undo() : ask(queue, decision));
  const button = element('button', { type: 'button', className: 'quiet', onclick, ariaLabel: `${name}: ${key}` }, name);
  const mark = sending ? '…' : isOpinion ? '' : button;
  return element('li', {}, about, isUndo ? button : mark);
}

/** Ask for the correction of a decision. @param {Queue} queue @param {import('./queue.js').Decided} decision */
async function ask(queue, decision) {
  const key = clean(decision.key);
  const choose = (/** @type {string} */ answer) => {
    correction.close();
    queue.correct(decision, answer);
    say(`Corrected to ${label(answer)}: ${key}`);
  };
  $('correction-about').textContent = `${key}: ${clean(decision.by)} said ${label(decision.answer)}.`;
  $('correction-picture').replaceChildren();
  $('correction-answers').replaceChildren(
    ...queue.world.answers.map((answer) => {
      const disabled = answer === decision.answer;
      return element('button', { type: 'button', disabled, onclick: () => choose(answer) }, label(answer));
    }),
  );
  correction.showModal();
  try {
    const image = await queue.picture(decision.photo, 'The photo');
    $('correction-picture').replaceChildren(image);
    correction.addEventListener('close', () => URL.revokeObjectURL(image.src), { once: true });
  } catch (error) {
    $('correction-picture').textContent = clean(/** @type {Error} */ (error).message);
  }
}
