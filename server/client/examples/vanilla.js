// The server's address: as ?server=https://voice.example.org, else that of this page.
const server = new URLSearchParams(location.search).get('server') ?? location.origin;
const { connect } = await import(`${server}/client.js`);

const at = (id) => document.getElementById(id);
let vm;
let call = null;

async function talk(find) {
  call = null;
  buttons('Waiting for a partner', {});
  try {
    const found = (call = await find());
    buttons('A partner is there', { next: true, send: true });
    hear();
    at('log').replaceChildren();
    found.addEventListener('message', ({ detail }) => show(`Partner: ${detail.data}`));
    found.addEventListener('ended', ({ detail }) => {
      // Not if we look for the next one ourselves.
      if (call === found) buttons(`The call is over: ${detail}`, { talk: true });
    });
  } catch (error) {
    buttons(`That did not work: ${error.message}`, { talk: true });
  }
}

/** What is said of the call, and what can be pressed. */
function buttons(status, { talk = false, next = false, send = false }) {
  at('status').textContent = status;
  at('talk').disabled = !talk;
  at('next').disabled = !next;
  at('send').disabled = !send;
}

/** A browser may want a click before it plays. */
async function hear() {
  at('hear').hidden = true;
  await call.play(at('audio')).catch(() => (at('hear').hidden = false));
}

function show(text) {
  const line = document.createElement('p');
  line.textContent = text;
  at('log').append(line);
}

at('talk').onclick = () => talk(async () => {
  if (!vm || vm.state === 'closed') vm = await connect(server);
  return vm.find();
});
at('hear').onclick = hear;
at('next').onclick = () => {
  const before = call;
  talk(() => before.next());
};
at('say').onsubmit = async (event) => {
  event.preventDefault();
  const text = at('text').value;
  at('text').value = '';
  show(`You: ${text}`);
  await call.send(text).catch((error) => show(`That was not sent: ${error.message}`));
};
