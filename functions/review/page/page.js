// The review page: signs a person in, shows the oldest waiting photo, and sends what they say of it.
//
// A decision is made the moment a key is pressed: the next photo, fetched before, is there at once, and the answer goes
// out behind it, as often as it takes, under an id that makes it count once. Text from outside only ever becomes text.

const settings = JSON.parse(document.querySelector('meta[name=settings]').content);
const $ = (id) => document.getElementById(id);
const HOME = location.origin + location.pathname;
const IN_HAND = 4; // the photo on screen and the three behind it
const BUSY_SECONDS = 45, IDLE_SECONDS = 4, RETRY_SECONDS = 2;

// The content policy lets no picture in but the script's own, so the tab's icon is one of them.
const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#0b6b5b"/>
<path d="M9 17l5 5 9-11" fill="none" stroke="#fff" stroke-width="4" stroke-linecap="round" stroke-linejoin="round"/></svg>`;
document.head.append(Object.assign(document.createElement('link'), {
  rel: 'icon', href: URL.createObjectURL(new Blob([ICON], { type: 'image/svg+xml' })),
}));

// ------------------------------------------------------------------------------------------------------- sign-in ---

// The access token lives in this page's memory only. The refresh token outlives a reload, not the tab.
let access = { token: '', until: 0 };

class SignedOut extends Error {}
class Refused extends Error {
  constructor(status, said) { super(said.message ?? `the server answered ${status}`); this.status = status; this.said = said; }
}

const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
const secret = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

async function signIn() {
  const verifier = secret(), state = secret();
  sessionStorage.setItem('sign-in', JSON.stringify({ verifier, state }));
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier)));
  location.assign(`${settings.signIn}/oauth2/authorize?` + new URLSearchParams({
    response_type: 'code', client_id: settings.clientId, redirect_uri: HOME, scope: settings.scope, state,
    code_challenge: base64url(digest), code_challenge_method: 'S256',
  }));
  await new Promise(() => {}); // the browser leaves this page
}

async function tokens(grant) {
  const body = new URLSearchParams({ client_id: settings.clientId, ...grant });
  const answer = await fetch(`${settings.signIn}/oauth2/token`, { method: 'POST', body });
  if (answer.status >= 500) throw new TypeError('the sign-in is not reachable');
  if (!answer.ok) { sessionStorage.removeItem('refresh'); throw new SignedOut(); }
  const got = await answer.json();
  access = { token: got.access_token, until: Date.now() + (got.expires_in - 30) * 1000 };
  if (got.refresh_token) sessionStorage.setItem('refresh', got.refresh_token);
}

let refreshing = null;
function refresh() { // once, however many requests find the token expired
  refreshing ??= (async () => {
    const token = sessionStorage.getItem('refresh');
    if (!token) throw new SignedOut();
    await tokens({ grant_type: 'refresh_token', refresh_token: token });
  })().finally(() => { refreshing = null; });
  return refreshing;
}

async function begin() {
  const query = new URLSearchParams(location.search), started = JSON.parse(sessionStorage.getItem('sign-in') ?? 'null');
  history.replaceState(null, '', HOME);
  sessionStorage.removeItem('sign-in');
  if (query.has('error')) return gate('You are not signed in', query.get('error_description') ?? query.get('error'));
  if (query.has('code') && started?.state === query.get('state'))
    await tokens({ grant_type: 'authorization_code', code: query.get('code'), redirect_uri: HOME, code_verifier: started.verifier });
  else if (sessionStorage.getItem('refresh')) await refresh();
  else await signIn();
  $('sign-out').hidden = false;
  document.body.dataset.state = 'ready';
  send();
  await look();
}

async function signOut() {
  const token = sessionStorage.getItem('refresh');
  sessionStorage.clear();
  if (token) {
    const body = new URLSearchParams({ client_id: settings.clientId, token });
    await fetch(`${settings.signIn}/oauth2/revoke`, { method: 'POST', body }).catch(() => {});
  }
  location.assign(`${settings.signIn}/logout?` + new URLSearchParams({ client_id: settings.clientId, logout_uri: HOME }));
}

function gate(title, text) {
  $('gate-title').textContent = title;
  $('gate-text').textContent = text;
  $('gate').hidden = false;
  $('banner').hidden = true;
  $('sign-out').hidden = true;
  document.body.dataset.state = 'closed';
  $('sign-in').focus();
}

// ----------------------------------------------------------------------------------------------------------- API ---

async function ask(name, body) {
  for (let attempt = 0; ; attempt++) {
    if (Date.now() > access.until) await refresh();
    const answer = await fetch(`api/${name}`, {
      method: 'POST', body: JSON.stringify(body),
      headers: { authorization: `Bearer ${access.token}`, 'content-type': 'application/json' },
    });
    online(true);
    if (answer.ok) return name === 'picture' ? answer.blob() : answer.json();
    if (answer.status === 401 && attempt === 0) { access.until = 0; continue; }
    if (answer.status === 401) throw new SignedOut();
    const said = await answer.json().catch(() => ({}));
    if (answer.status === 429 || answer.status >= 500) throw new TypeError(said.message ?? 'the server is busy');
    throw new Refused(answer.status, said);
  }
}

// What goes wrong anywhere ends here: a lost session closes the page, a lost connection shows, the rest is said.
function trouble(error) {
  if (error instanceof SignedOut) gate('Your session has ended', 'Sign in again to go on. Answers that could not be sent yet are kept and sent then.');
  else if (error instanceof Refused && error.status === 403) gate('You may not review', `${error.message}. Ask your operator, or sign in again.`);
  else if (error instanceof TypeError) online(false);
  else say(error.message, true);
}

function online(reached) {
  $('banner').hidden = reached;
  if (!reached) $('banner').textContent = outbox.length ? `Offline. ${plural(outbox.length, 'answer')} will be sent when the connection is back.` : 'Offline. Trying again …';
}

// --------------------------------------------------------------------------------------------------- what it knows ---

let classes = [], undoSeconds = 5, reviewer = '';
let hand = [];      // photos that this person holds, the one on screen first: { photo, key, driver, since, scores, picture }
let skipped = [];   // their names; handed out again when nothing else waits
let released = [];  // to be given back with the next call
let mine = [];      // this tab's decisions, latest first: { photo, key, answer, id, at, state }
let others = [];    // the day's decisions as the server listed them
let outbox = JSON.parse(sessionStorage.getItem('outbox') ?? '[]'); // decisions not yet taken by the server
let counts = { waiting: 0, decided: 0, seconds: null, more: false };
let looking = false, undoing = false, nextLook = 0;

const midnight = () => { const day = new Date(); day.setHours(0, 0, 0, 0); return day.toISOString(); };

async function look() {
  if (looking) return;
  looking = true;
  clearTimeout(nextLook);
  try {
    const had = hand.map((each) => each.photo), back = released;
    released = [];
    const world = await ask('queue', {
      have: had, skipped: skipped.slice(-80), release: back, since: midnight(), want: Math.min(8, IN_HAND + outbox.length),
    });
    ({ classes, undoSeconds, reviewer } = world);
    counts = world;
    others = world.recent;
    // While the answer was on its way, photos may have been decided, skipped or taken back here.
    const gone = new Set([...mine, ...outbox].map((each) => each.photo).concat(released));
    const held = world.photos.filter((each) => !gone.has(each.photo));
    hand = hand.filter((each) => !had.includes(each.photo) || held.some((has) => has.photo === each.photo));
    hand = [...hand, ...held.filter((each) => !hand.some((has) => has.photo === each.photo))].slice(0, IN_HAND);
    hand.forEach(fetchPicture);
    build();
  } catch (error) { trouble(error); }
  looking = false;
  show();
  if (document.body.dataset.state !== 'closed') nextLook = setTimeout(look, 1000 * (hand.length && $('banner').hidden ? BUSY_SECONDS : IDLE_SECONDS));
}

function fetchPicture(item) {
  item.picture ??= ask('picture', { photo: item.photo }).then(async (blob) => {
    const image = new Image();
    image.src = URL.createObjectURL(blob);
    await image.decode();
    image.alt = `The photo${item.driver ? ` of ${clean(item.driver)}` : ''}`;
    item.ready = image;
  }).catch((error) => {
    item.picture = undefined;
    if (!(error instanceof Refused) || error.status === 403) return trouble(error);
    item.broken = error.message;
  }).finally(() => { if (hand[0] === item) show(); });
}

const forget = (item) => { if (item.ready) URL.revokeObjectURL(item.ready.src); };

// ------------------------------------------------------------------------------------------------------- deciding ---

function decide(answer) {
  const item = hand[0];
  if (!item || !(item.ready || item.broken) || undoing || document.body.dataset.state !== 'ready') return;
  hand.shift();
  const decision = { photo: item.photo, key: item.key, answer, id: crypto.randomUUID(), at: Date.now(), state: 'sending', item };
  mine.unshift(decision);
  for (const old of mine.slice(3)) { if (old.item) forget(old.item); old.item = undefined; }
  skipped = skipped.filter((photo) => photo !== item.photo);
  counts.waiting = Math.max(0, counts.waiting - 1);
  counts.decided++;
  post({ photo: item.photo, answer, review_id: decision.id });
  say(`${label(answer)}: ${title(item)}`);
  show();
}

function post(decision) {
  outbox.push(decision);
  keep();
  send();
}

const keep = () => sessionStorage.setItem('outbox', JSON.stringify(outbox));

let sending = null;
function send() { // in order, each until the server has taken or refused it
  sending ??= (async () => {
    while (outbox.length) {
      const sent = outbox[0], decision = mine.find((each) => each.id === sent.review_id);
      try {
        const taken = await ask('decide', sent);
        if (decision) Object.assign(decision, { state: 'done', at: Date.now(), revision: taken.revision });
      } catch (error) {
        if (!(error instanceof Refused) || error.status === 403) {
          trouble(error);
          if (!(error instanceof TypeError)) return;
          await new Promise((resolve) => { setTimeout(resolve, RETRY_SECONDS * 1000); addEventListener('online', resolve, { once: true }); });
          continue;
        }
        mine = mine.filter((each) => each !== decision);
        say(`Not taken: ${error.message}.`, true);
      }
      outbox.shift();
      keep();
      list();
    }
    look();
  })().finally(() => { sending = null; });
  return sending;
}

async function undo() {
  const decision = mine.find((each) => !each.corrects);
  if (!decision || undoing || document.body.dataset.state === 'closed') return;
  undoing = true;
  try {
    if (outbox.length) await send();
    if (!mine.includes(decision)) return;
    const again = await ask('undo', { photo: decision.photo, review_id: decision.id });
    mine = mine.filter((each) => each !== decision);
    others = others.filter((each) => each.id !== decision.id);
    counts.waiting++;
    counts.decided--;
    const item = { ...again, ready: decision.item?.ready, picture: decision.item?.picture, broken: decision.item?.broken };
    hand = [item, ...hand.filter((each) => each.photo !== item.photo)];
    fetchPicture(item);
    say(`Undone: ${title(item)} waits again`);
  } catch (error) {
    if (error instanceof Refused && error.status === 409) say(`${error.message[0].toUpperCase()}${error.message.slice(1)}.`, true);
    else trouble(error);
  } finally { undoing = false; show(); }
}

function skip() {
  const item = hand[0];
  if (!item || undoing || document.body.dataset.state !== 'ready') return;
  hand.shift();
  skipped = [...skipped.filter((photo) => photo !== item.photo), item.photo];
  released.push(item.photo);
  forget(item);
  say(`Skipped: ${title(item)}`);
  show();
  look();
}

async function correct(decision) {
  $('correction-about').textContent = `${clean(decision.key)}: ${decision.by ?? reviewer} said ${label(decision.answer)}.`;
  $('correction-picture').replaceChildren();
  $('correction-answers').replaceChildren(...answers((answer) => {
    const id = crypto.randomUUID();
    mine.unshift({ photo: decision.photo, key: decision.key, answer, id, at: Date.now(), state: 'sending', corrects: decision.id });
    post({ photo: decision.photo, answer, review_id: id, corrects: decision.id });
    $('correction').close();
    say(`Corrected to ${label(answer)}: ${clean(decision.key)}`);
    list();
  }, decision.answer));
  $('correction').showModal();
  try {
    const image = new Image();
    image.alt = 'The photo';
    image.src = URL.createObjectURL(await ask('picture', { photo: decision.photo }));
    $('correction-picture').replaceChildren(image);
  } catch (error) { if (error instanceof Refused) $('correction-picture').textContent = error.message; else trouble(error); }
}

// -------------------------------------------------------------------------------------------------------- showing ---

// Control and bidirectional characters in a name could make it look like another: they are shown as their numbers.
const clean = (text) => text.replace(/[\p{C}\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
const label = (answer) => answer[0].toUpperCase() + answer.slice(1).replaceAll('_', ' ');
const plural = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;
const percent = (share) => (share > 0 && share < 0.01 ? '< 1 %' : share > 0.99 && share < 1 ? '> 99 %' : `${Math.round(100 * share)} %`);
const title = (item) => clean(item.driver || item.key.split('/').at(-1));

function ago(since) {
  const minutes = Math.floor((Date.now() - new Date(since)) / 60000);
  if (minutes < 1) return 'less than a minute';
  if (minutes < 60) return plural(minutes, 'minute');
  if (minutes < 2880) return plural(Math.floor(minutes / 60), 'hour');
  return plural(Math.floor(minutes / 1440), 'day');
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function answers(choose, chosen) {
  return [...classes, 'neither'].map((answer, index) => {
    const key = answer === 'neither' ? '0' : String(index + 1);
    const button = element('button', { type: 'button', onclick: () => choose(answer), disabled: answer === chosen }, label(answer));
    button.dataset.answer = answer;
    if (!chosen && key.length === 1) { button.setAttribute('aria-keyshortcuts', key); button.append(element('kbd', {}, key)); }
    return button;
  });
}

let built = '';
function build() { // what depends on the stack's settings, once
  if (built === JSON.stringify([classes, counts.guidelines])) return;
  built = JSON.stringify([classes, counts.guidelines]);
  $('answers').replaceChildren(...answers(decide));
  const rules = counts.guidelines.split('|').map((each) => each.trim()).filter(Boolean);
  $('guidelines').hidden = !rules.length;
  $('guidelines').querySelector('ul').replaceChildren(...rules.map((each) => element('li', {}, each)));
}

function show() {
  if (document.body.dataset.state === 'closed') return;
  const item = hand[0];
  document.body.dataset.state = item ? 'ready' : 'empty';
  document.body.dataset.photo = item?.ready ? item.photo : '';
  $('picture').replaceChildren(...(item?.ready ? [item.ready] : []));
  $('note').textContent = !item ? (looking || outbox.length ? '' : 'Nothing waits for you.\nNew photos appear here by themselves.')
    : item.broken ? `This photo cannot be shown: ${item.broken}` : item.ready ? '' : 'Loading …';
  for (const button of $('answers').children) button.ariaDisabled = !(item?.ready || item?.broken); // a disabled one would lose the focus
  $('driver').textContent = item ? title(item) : '';
  $('name').textContent = $('name').title = item ? clean(item.key) : '';
  $('scores').replaceChildren(...Object.entries(item?.scores ?? {}).map(([name, score]) => {
    const value = element('dd', {}, percent(score));
    value.style.setProperty('--share', score);
    return element('div', {}, element('dt', {}, label(name)), value);
  }));
  const about = [`${counts.waiting}${counts.more ? '+' : ''} waiting`, `${counts.decided} decided today`];
  if (counts.seconds) about.push(`${counts.seconds.toFixed(1)} s each`);
  $('counts').textContent = about.join(' · ');
  $('colleagues').textContent = Object.entries(counts.colleagues ?? {}).map(([name, count]) => `${clean(name)} has ${count}`).join(', ');
  document.title = `${counts.waiting ? `(${counts.waiting}) ` : ''}Review · Loading Bay`;
  tick();
  list();
}

function tick() { if (hand[0]) $('waited').textContent = `waiting for ${ago(hand[0].since)}`; }

function list() {
  const own = mine.map((each) => ({ ...each, by: reviewer }));
  const shown = [...own, ...others.filter((each) => !own.some((has) => has.id === each.id || has.corrects === each.id))]
    .filter((each, index, all) => all.findIndex((first) => first.photo === each.photo) === index).slice(0, 8);
  const last = mine.find((each) => !each.corrects);
  const open = (each) => each.id === last?.id && Date.now() - each.at < undoSeconds * 1000;
  $('undo').ariaDisabled = !last;
  $('history').hidden = !shown.length;
  $('recent').replaceChildren(...shown.map((each) => {
    const what = element('span', {}, element('b', {}, label(each.answer)), each.by === reviewer ? '' : ` by ${clean(each.by)}`, element('small', { title: clean(each.key) }, clean(each.key)));
    const act = each.state === 'sending' ? element('span', {}, '…')
      : element('button', { type: 'button', className: 'quiet', onclick: () => (open(each) ? undo() : correct(each)), ariaLabel: `${open(each) ? 'Undo' : 'Correct'}: ${clean(each.key)}` }, open(each) ? 'Undo' : 'Correct');
    return element('li', {}, what, act);
  }));
  if (last && open(last)) setTimeout(list, undoSeconds * 1000 - (Date.now() - last.at) + 50);
}

function say(text, bad = false) {
  $('said').textContent = text;
  $('said').classList.toggle('bad', bad);
}

// ----------------------------------------------------------------------------------------------------------- keys ---

const shortcuts = $('shortcuts');
shortcuts.checked = localStorage.getItem('shortcuts') !== 'off';
shortcuts.onchange = () => { localStorage.setItem('shortcuts', shortcuts.checked ? 'on' : 'off'); keys(); };
const keys = () => document.body.classList.toggle('no-keys', !shortcuts.checked);
keys();

addEventListener('keydown', (event) => {
  if (!shortcuts.checked || event.ctrlKey || event.altKey || event.metaKey || event.repeat || $('correction').open) return;
  const key = event.key.toLowerCase();
  if (key === 'u') undo();
  else if (key === 's') skip();
  else if (key === '0') decide('neither');
  else if (/^[1-9]$/.test(key) && classes[key - 1]) decide(classes[key - 1]);
});
$('skip').onclick = skip;
$('undo').onclick = undo;
$('sign-in').onclick = signIn;
$('sign-out').onclick = signOut;
$('correction-close').onclick = () => $('correction').close();
addEventListener('online', look);
addEventListener('offline', () => online(false));
document.addEventListener('visibilitychange', () => { if (!document.hidden && access.token) look(); });
addEventListener('beforeunload', (event) => { if (outbox.length && document.body.dataset.state !== 'closed') event.preventDefault(); });
setInterval(tick, 20000);

begin().catch(trouble);
