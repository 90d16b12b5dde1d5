// The server's address: as ?server=https://voice.example.org, else that of this page.
const server = new URLSearchParams(location.search).get('server') ?? location.origin;
const { connect } = await import(`${server}/client.js`);

const at = (id) => document.getElementById(id);
const status = (text) => (at('status').textContent = text);
let vm;
let call;

async function talk(find) {
  at('talk').disabled = at('next').disabled = true;
  try {
    status('Waiting for a partner');
    call = await find();
    status('A partner is there');
    hear();
    at('log').replaceChildren();
    call.addEventListener('message', ({ detail }) => show(`Partner: ${detail.data}`));
    call.addEventListener('ended', ({ detail }) => {
      status(`The call is over: ${detail}`);
      at('talk').disabled = false;
      at('next').disabled = true;
    });
    at('next').disabled = false;
  } catch (error) {
    status(error.message);
    at('talk').disabled = false;
  }
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
at('next').onclick = () => talk(() => call.next());
at('say').onsubmit = async (event) => {
  event.preventDefault();
  const text = at('text').value;
  at('text').value = '';
  show(`You: ${text}`);
  await call.send(text);
};
